"""The MLflow store: where it is, whether it can be written, and the one client that talks to it."""

from __future__ import annotations

import logging
import tempfile
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import TrackingConfig
from pipeline.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Store:
    """An MLflow tracking store and the experiment in it that we write to.

    The default is a local one: ``<dir>/mlflow.db`` and ``<dir>/artifacts``. Nothing is imported or
    created before `client` or `experiment_id` is first used.
    """

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        self.dir = Path(config.dir).absolute()
        self.uri = config.uri or f"sqlite:///{self.dir / 'mlflow.db'}"

    def check_writable(self) -> None:
        """Make the local folder, and refuse one that cannot be written.

        Raises:
            TrackingError: naming the folder and what the system says.
        """
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.dir):
                pass
        except OSError as error:
            raise TrackingError(
                f"tracking.dir={self.config.dir}: {self.dir} cannot be written "
                f"({error.strerror}); expected a folder for the database, artifacts and outputs."
            ) from error

    @cached_property
    def client(self) -> MlflowClient:
        """The client; the first one imports MLflow."""
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each table it makes
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    @cached_property
    def experiment_id(self) -> str:
        """The experiment's id; it is made where it is not there yet.

        Raises:
            TrackingError: where the store cannot be reached.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_experiment_by_name(self.config.experiment)
            if found is not None:
                return str(found.experiment_id)
            # A server decides itself where its artifacts go.
            local = None if self.config.uri else (self.dir / "artifacts").as_uri()
            return str(
                self.client.create_experiment(self.config.experiment, artifact_location=local)
            )
        except MlflowException as error:
            reason = str(error).strip().splitlines()[0][:300]
            raise TrackingError(f"tracking.uri={self.uri}: cannot be used: {reason}") from error


@lru_cache(maxsize=4)  # one client for all trials of a worker
def open_store(config: TrackingConfig) -> Store:
    """Return the store that a config names."""
    return Store(config)
