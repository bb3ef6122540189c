"""Shapes: what a task reads of a record, in which columns, and which rows stay together."""

from __future__ import annotations

import re
import reprlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from pipeline.common.errors import DataError, did_you_mean, listing, quoted
from pipeline.common.text_format import key_of
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.targets import Moments
from pipeline.data.text_files import uncompressed
from pipeline.data.values import as_text, check_whole, header_hint, is_blank

_NO_NAME = re.compile(r"""[^\w\s"'`\\]""")  # a sign that may be a delimiter


@dataclass(frozen=True)
class Shape(ABC):
    """What a task reads of a record; a task defines its own class, with its columns."""

    columns: Any  # which; each class names the type of its own
    has_classes: ClassVar[bool] = False  # labels that training lacks cannot be predicted

    @abstractmethod
    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return a record as the values of a row.

        Args:
            values: of the record.
            place: file and line, for messages.
            with_targets: False if the targets are to be predicted.

        Raises:
            DataError: naming the place and column of a value that cannot be used.
        """

    @abstractmethod
    def groups(self, rows: Rows) -> Sequence[str]:
        """Return the text of each row that must not be in two splits."""

    def texts(self, rows: Rows) -> Sequence[str]:
        """Return all that the model reads of each row; rows with the same are duplicates."""
        return self.groups(rows)

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, str]:
        """The rows' column for each column of a file that prediction reads."""

    @abstractmethod
    def check(self, train: Rows) -> list[str]:
        """Return what is odd about training rows, before they are cut to size.

        Raises:
            DataError: for rows that cannot be learned from.
        """

    @property
    def label_column(self) -> str | None:
        """The column of a file whose values are labels; None: there is none."""
        return None

    def record(self, rows: Rows, i: int) -> dict[str, Any]:
        """Return what prediction reads of a row, by the columns of a file."""
        return {column: rows[name][i] for column, name in self.inputs.items()}

    def labels(self, rows: Rows) -> Sequence[Sequence[str]]:
        """Return each row's labels."""
        return [()] * len(rows)

    def doubtful_labels(self, labels: Iterable[str]) -> list[str]:
        """Return those that may mean a missing label, unless the columns say which ones do."""
        del labels  # a shape with labels of its own words overrides this
        return []

    @property
    def has_one_label(self) -> bool:
        """Whether each row has exactly one label, out of a few."""
        return False

    def moments(self, rows: Rows) -> Mapping[str, Moments]:
        """Return the scale of each column of numbers that are to be predicted."""
        del rows  # a shape with such columns overrides this
        return {}

    def strata(self, rows: Rows) -> Sequence[str]:
        """Return the label that splits stratify each row by; the same if there are none."""
        return [""] * len(rows)


def rarest(labels: Sequence[Sequence[str]]) -> list[str]:
    """Return the rarest of each row's labels, the hardest to distribute; empty without any."""
    counts = Counter(chain.from_iterable(labels))
    return [min(names, key=lambda name: (counts[name], name), default="") for names in labels]


def column_of(values: Values, key: str, column: str, place: str) -> Any:
    """Return a column's value; ``translation.de`` is key ``de`` of column ``translation``.

    Raises:
        DataError: if there is no such column.
    """
    here: Any = values
    for part in [column] if column in values else column.split("."):
        if not isinstance(here, Mapping) or part not in here:
            objects = {name: value for name, value in values.items() if isinstance(value, Mapping)}
            nested = [f"{name}.{inner}" for name, value in objects.items() for inner in value]
            # Of other formats no line can be the header.
            file = uncompressed(Path(place.rpartition(":")[0]))
            hint = did_you_mean(column, [*values, *nested])
            if file.suffix.lower() in (".csv", ".tsv"):
                hint = _delimiter_hint(values, column) or hint or header_hint(values)
            raise DataError(
                f"{place}: there is no column {column!r} ({key}); found {quoted(values)}.{hint}"
            )
        here = here[part]
    return here


def value_in(values: Values, column: str) -> Any:
    """Return what `column_of` finds, or None where there is no such column."""
    with suppress(DataError):
        return column_of(values, "", column, "")
    return None


def _delimiter_hint(values: Values, column: str) -> str:
    """Return which delimiter would find a column in the one that a header names, or nothing."""
    header = "".join(values) if len(values) == 1 else ""
    signs = (sign for sign in _NO_NAME.findall(header) if column in header.split(sign))
    sign = next(signs, None)
    return f" Try {key_of('delimiter', sign)}." if sign else ""


def replaced(values: Values, column: str, value: Any) -> dict[str, Any]:
    """Return a record with another value in a column that `column_of` finds."""
    if column in values:
        return {**values, column: value}
    outer, _, inner = column.partition(".")
    return {**values, outer: replaced(values[outer], inner, value)}


def text_of(values: Values, key: str, column: str, place: str) -> str:
    """Return the text in a column; a number is its text.

    Raises:
        DataError: if there is none, or it has half a surrogate pair.
    """
    given = column_of(values, key, column, place)
    text = as_text(given)
    if text is None and given is not None and given == given:
        raise DataError(
            f"{place}: found {reprlib.repr(given)} in column {column!r}, expected a text."
        )
    if text is None or is_blank(text):
        raise DataError(
            f"{place}: no text: found {given!r} in column {column!r}, expected at least one letter."
        )
    check_whole(text, f"{place}: column {column!r}")
    return text


def place_of(rows: Rows) -> str:
    """Return the files that the rows come from."""
    return listing(dict.fromkeys(row_id.rsplit(":", 1)[0] for row_id in rows.ids), most=3)
