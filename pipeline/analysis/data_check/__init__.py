"""The data check: what is wrong with the rows of every split, before anything is trained."""

from pipeline.analysis.data_check.inspection import inspect_data, inspect_splits
from pipeline.analysis.data_check.report import DataReport, Finding

__all__ = ["DataReport", "Finding", "inspect_data", "inspect_splits"]
