"""Class labels: the names that a data set of the hub, a parquet or an arrow file says they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Features


def features_of(schema: Any) -> Features | None:
    """Return what `datasets` wrote about its columns into an arrow schema; None: nothing."""
    if b"huggingface" not in (schema.metadata or {}):
        return None
    from datasets import Features

    try:
        return Features.from_arrow_schema(schema)
    except (AttributeError, KeyError, TypeError, ValueError):  # not written by `datasets`
        return None


def named(rows: Iterable[Mapping[str, Any]], features: Features | None) -> Iterator[dict[str, Any]]:
    """Yield rows with names of labels instead of their numbers.

    A number without a name, as the hub hides a label by -1, becomes None.
    """
    names = {column: found for column, of in (features or {}).items() if (found := _names(of))}
    for row in rows:
        yield {**row, **{column: _named(row[column], of) for column, of in names.items()}}


def _names(feature: Any) -> dict[int, str]:
    """Return the names of a column of labels, or of lists of labels."""
    from datasets import ClassLabel

    labels = getattr(feature, "feature", feature)
    return dict(enumerate(labels.names)) if isinstance(labels, ClassLabel) else {}


def _named(value: Any, names: Mapping[int, str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names.get(value) if isinstance(value, int) else value
