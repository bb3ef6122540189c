"""Columns to group rows by, besides what the task reads: their source, their language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.common.errors import DataError, did_you_mean, listing
from pipeline.common.session import shared
from pipeline.config.data import DataConfig
from pipeline.data.sources import SPLITS, records

NO_VALUE = "(none)"


@shared(maxsize=4)
def slice_values(config: DataConfig, columns: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    """Return the values of some columns for each row that the config names, by its id.

    Raises:
        DataError: for a column that a split lacks.
    """
    found: dict[str, Sequence[str]] = {}
    for split in SPLITS:
        for row_id, values in records(config, split):
            for column in columns:
                if column not in values:
                    raise DataError(
                        f"evaluation.slices: the {split} split, row {row_id}, has no column "
                        f"{column!r}.{did_you_mean(column, values)} Found {listing(values)}."
                    )
            found[row_id] = [_text(values[column]) for column in columns]
    return found


def _text(value: Any) -> str:
    is_missing = value is None or value != value or str(value).strip() == ""
    return NO_VALUE if is_missing else str(value).strip()
