"""From files or the hub to checked, split rows: step two of a run."""

from pipeline.data.rows import Rows
from pipeline.data.splits import Splits, load_splits

__all__ = ["Rows", "Splits", "load_splits"]
