"""The MLflow record: the only package that writes to MLflow."""

from pipeline.tracking.record import Record
from pipeline.tracking.store import Store, open_store

__all__ = ["Record", "Store", "open_store"]
