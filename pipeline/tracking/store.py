"""The MLflow store: where it is, whether it can be written, and the one client that talks to it."""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

from filelock import FileLock

from pipeline.common.atomic import remove_leftovers, replacing
from pipeline.common.errors import TrackingError, did_you_mean, listing
from pipeline.common.private import make_file, make_folder
from pipeline.common.process import without_gc
from pipeline.common.secrets import masked
from pipeline.common.session import shared
from pipeline.config.compose import key_of, literal
from pipeline.config.tracking import EXPERIMENT, TrackingConfig
from pipeline.tracking.context import EXPERIMENT_TAGS, describe_experiment, origin_tags
from pipeline.tracking.location import (
    ARTIFACTS,
    DATABASE,
    artifacts_of,
    database_file,
    local_path,
    made_elsewhere,
    sqlite_url,
)
from pipeline.tracking.tables import TablesAhead, make_tables

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PLACE = ("tracking", "tracking.dir", "tracking.uri", "tracking.experiment")
CONNECT_SECONDS = 10.0  # to wait for a tracking server's first answer
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # tracking URIs without a server


class Store:
    """An MLflow tracking store and the experiment in it that we write to.

    The default is a local one: ``<dir>/mlflow.db`` and ``<dir>/artifacts``. Nothing is imported or
    created before `client` or `experiment_id` is first used.
    """

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        self.dir = Path(config.dir).absolute()
        self.uri = config.uri or sqlite_url(self.dir / DATABASE)
        self._ahead: TablesAhead | None = None

    def check_writable(self) -> None:
        """Refuse a local folder that cannot be written or made; nothing is left there.

        Raises:
            TrackingError: naming the folder and what the system says.
        """
        try:
            there = next(path for path in (self.dir, *self.dir.parents) if path.exists())
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise TrackingError(
                f"tracking.dir={self.config.dir}: {self.dir} cannot be written "
                f"({error.strerror}); expected a folder for the database, artifacts and outputs."
            ) from error

    def make_folder(self) -> None:
        """Make the local folder; raises as `check_writable` does."""
        self.check_writable()
        make_folder(self.dir)

    @cached_property
    def client(self) -> MlflowClient:
        """The client; the first one imports MLflow."""
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each table it makes
        # What it raises as well, with its traceback.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        from mlflow import MlflowClient

        self._check_place()
        self._reach_server()  # MLflow would ask for minutes
        with self._usable():
            return MlflowClient(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether a tracking server is asked, not a database or folder."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def is_empty(self) -> bool:
        """Whether this is a local store that nothing was written to yet.

        Raises:
            TrackingError: where its database is gone, and what it told of is there.
        """
        if self.config.uri or (self.dir / DATABASE).is_file():
            return False
        artifacts = self.dir / ARTIFACTS
        if artifacts.is_dir() and any(artifacts.iterdir()):
            raise TrackingError(
                f"{self.dir / DATABASE}: the database is gone, without which the artifacts of "
                f"runs in {artifacts} cannot be told apart. Put back a copy of it, or move "
                f"{self.dir} away to begin a new store."
            )
        return True

    def relative(self, path: Path) -> str:
        """Return a path as the record has it, so that it is right in a copied store as well."""
        inside = path.is_relative_to(self.dir)
        return (path.relative_to(self.dir) if inside else path).as_posix()

    @property
    def options(self) -> list[str]:
        """The overrides that lead to this store, those that say what is the default left out."""
        usual = {"dir": "mlruns", "uri": os.environ.get("MLFLOW_TRACKING_URI") or None}
        usual["experiment"] = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        given = {key: getattr(self.config, key) for key in usual}
        return [f"tracking.{k}={literal(v)}" for k, v in given.items() if v != usual[k]]

    def instead(self, overrides: Iterable[str]) -> list[str]:
        """Return overrides that lead to this store, whichever they name: it may be a copy."""
        kept = [o for o in overrides if key_of(o) not in _PLACE]
        return [*kept, *self.options]

    @property
    def origin(self) -> Path | None:
        """The folder in which a local store was made that was copied or moved since, else None."""
        return None if self.config.uri or self.is_empty else made_elsewhere(self.dir)

    def _check_place(self) -> None:
        if made := self.origin:
            raise TrackingError(
                f"tracking.dir={self.config.dir}: this store was made in {made} and copied or "
                f"moved to {self.dir}, but still reads and writes there. To make it one of its own "
                f"that leaves {made} alone: "
                f"{shlex.join(['tunewright', 'doctor', '--fix', *self.options])}"
            )

    @without_gc()
    def connect(self) -> None:
        """Reach the store and make what is missing in it, before anything depends on it.

        Raises:
            TrackingError: where the store cannot be reached.
        """
        self._reach_server()
        experiment = self.experiment_id  # first of all: it makes the store
        with self._usable():
            describe_experiment(self.client, experiment)

    def make_tables_ahead(self, *, beside: bool = False) -> None:
        """Make the tables that `connect` will need: they take seconds.

        Args:
            beside: have another process make them, while this one goes on.
        """
        if self._ahead is None and self.is_empty:
            self._ahead = TablesAhead(artifacts_of(self.dir))
            if beside:
                self._ahead.begin()
                return
            with suppress(TrackingError), self._usable():  # `connect` makes them, or says why not
                self._ahead.make()

    def check_there(self) -> None:
        """Refuse a store or an experiment that is not there; nothing is made.

        A deleted experiment is not there.

        Raises:
            TrackingError: naming what is missing, and the nearest experiment.
        """
        self.check_store()
        with self._usable():
            found = self.client.get_experiment_by_name(self.config.experiment)
            if found is not None and found.lifecycle_stage != "deleted":
                return
            # The first thousand, which is enough for a hint.
            names = [other.name for other in self.client.search_experiments()]
        raise TrackingError(
            f"tracking.experiment={self.config.experiment}: there is no such experiment in "
            f"{masked(self.uri)}.{did_you_mean(self.config.experiment, names)} Known: "
            f"{listing(names)}."
        )

    def check_store(self) -> None:
        """Refuse a store that is not there; nothing is made.

        Raises:
            TrackingError: where no server answers, or there is no database.
        """
        self._reach_server()
        if not self._is_there:
            raise TrackingError(
                f"{masked(self.uri)}: nothing is recorded there yet. `tunewright train` makes a "
                "run; tracking.dir=… or tracking.uri=… names another store."
            )

    @property
    def _is_there(self) -> bool:
        return not self.is_empty and (self._file is None or self._file.is_file())

    @property
    def _file(self) -> Path | None:
        """The database, where it is a file."""
        return database_file(self.uri)

    def _reach_server(self) -> None:
        if not self.is_server:
            return
        # MLflow's client asks again for minutes before it says that nobody answers.
        try:
            with urlopen(_health_of(self.uri), timeout=CONNECT_SECONDS):
                pass
        except HTTPError:
            pass  # somebody answers; what MLflow says of it comes next
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise TrackingError(
                f"tracking.uri={masked(self.uri)}: no MLflow server answers there ({reason})."
            ) from error

    @cached_property
    def experiment_id(self) -> str:
        """The experiment's id; it is made where it is not there yet.

        Raises:
            TrackingError: where the store cannot be reached.
        """
        with self._usable():
            found = self._find_experiment() if self._is_there else None
            if found is not None:
                return found  # nothing is written: the store may be one to look at only
            with self._alone():
                self._make_database()
                return self._find_experiment() or self._make_experiment()

    def create_run(self, name: str, start: int, run_tags: Mapping[str, str]) -> str:
        """Make a run that began at a time in milliseconds; return its id.

        Its local folder is made here, since MLflow would open it to all accounts.
        """
        all_tags = {**origin_tags(), **run_tags}
        made = self.client.create_run(self.experiment_id, start, all_tags, name).info
        if not self.is_server and urlsplit(made.artifact_uri).scheme in ("", "file"):
            with suppress(OSError):  # MLflow reports it when the run can be closed
                make_folder(Path(local_path(made.artifact_uri)))
        return str(made.run_id)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, ImportError) as error:
            reason = str(error).strip().splitlines()[0][:300]
            raise TrackingError(
                f"tracking.uri={masked(self.uri)}: cannot be used: {masked(reason)}"
            ) from error

    def _alone(self) -> AbstractContextManager[object]:
        """Keep others out while a local database is made: two at once fail on its tables."""
        if self.config.uri:
            return nullcontext()
        self.make_folder()
        return FileLock(make_file(self.dir / ".making.lock"))

    def _make_database(self) -> None:
        """Make the local database under another name first.

        MLflow takes a second for its tables, and cannot use what a stop in the middle leaves.
        """
        database = self.dir / DATABASE
        if self.config.uri and self._file is not None:
            make_folder(self._file.parent)
            make_file(self._file)
        if not self.is_empty:
            return
        remove_leftovers(self.dir, database.name)
        ahead, self._ahead = self._ahead, None
        with replacing(database) as made, ahead or nullcontext():
            make_file(made)  # SQLite lets no group write
            if not (ahead and ahead.copy(made)):
                make_tables(made, artifacts_of(self.dir))

    def _find_experiment(self) -> str | None:
        if masked(self.config.experiment) != self.config.experiment:
            raise TrackingError(
                f"tracking.experiment={masked(self.config.experiment)}: a name with a secret in it "
                "would be seen by everybody; give another."
            )
        found = self.client.get_experiment_by_name(self.config.experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking.experiment={self.config.experiment}: this experiment was deleted in "
                f"{masked(self.uri)}. Restore it (mlflow experiments restore --experiment-id "
                f"{found.experiment_id}), or give another name."
            )
        return None if found is None else str(found.experiment_id)

    def _make_experiment(self) -> str:
        # A server decides itself where its artifacts go; a database does not hold them.
        is_database = self.uri.startswith(DATABASES)
        local = artifacts_of(self.dir) if is_database else None
        made = self.client.create_experiment(self.config.experiment, local, dict(EXPERIMENT_TAGS))
        return str(made)


def _health_of(uri: str) -> str:
    """Return the address of a server that says whether it runs; it asks for no user."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))


@shared(maxsize=4)  # one client for all trials of a worker
def open_store(config: TrackingConfig) -> Store:
    """Return the store that a config names."""
    return Store(config)
