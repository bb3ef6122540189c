"""The tracking group: where the record goes."""

from pydantic.dataclasses import dataclass

from pipeline.config.types import STRICT, Text


@dataclass(config=STRICT, frozen=True)
class TrackingConfig:
    """Where the record goes: in a rerun, too, the user's own, and never what a record says."""

    dir: Text  # folder of the local store: database, artifacts, studies, outputs
    uri: Text | None  # any MLflow tracking URI; null: the local store's sqlite database
    experiment: Text  # MLflow experiment
