"""The tracking group: where the record goes."""

from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from pipeline.config.types import STRICT, Few, Text

EXPERIMENT = "tunewright"


def _unset(value: Any) -> Any:
    """Take an empty variable of the environment for none, as MLflow does."""
    return None if value == "" else value


@dataclass(config=STRICT, frozen=True)
class TrackingConfig:
    """Where the record goes: in a rerun, too, the user's own, and never what a record says."""

    dir: Text  # folder of the local store: database, artifacts, studies, outputs
    # Any MLflow tracking URI; null: the local store's sqlite database.
    uri: Annotated[Text | None, BeforeValidator(_unset)]
    # MLflow's; an empty variable gives the usual one.
    experiment: Annotated[Text, BeforeValidator(lambda name: name or EXPERIMENT)]
    keep_models: Few = 1  # of a study: those of its best trials; 1 where another group has no key
