"""From files or the hub to checked, split rows: step two of a run."""

from pipeline.data.rows import Rows
from pipeline.data.sources import read_split
from pipeline.data.splits import Splits, count_labels, load_splits
from pipeline.data.targets import Targets

__all__ = ["Rows", "Splits", "Targets", "count_labels", "load_splits", "read_split"]
