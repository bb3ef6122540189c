"""Class labels: the names that a data set of the hub, a parquet or an arrow file says they have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """Yield rows with names of labels instead of their numbers, in lists and objects too.

    A number without a name, as the hub hides a label by -1, becomes None.
    """
    namer = _namer(features) if features else None
    for row in rows:
        yield namer(row) if namer else {**row}


def _namer(feature: Any) -> Callable[[Any], Any] | None:
    """Return what names the labels in a value of a feature; None: it holds none."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        names = dict(enumerate(feature.names))
        return lambda value: names.get(value) if isinstance(value, int) else value
    if isinstance(feature, Mapping):
        of = {key: namer for key, inner in feature.items() if (namer := _namer(inner))}
        if not of:
            return None
        return lambda value: value and {**value, **{key: of[key](value[key]) for key in of}}
    item = _namer(feature.feature) if hasattr(feature, "feature") else None
    return item and (lambda value: value and [item(one) for one in value])
