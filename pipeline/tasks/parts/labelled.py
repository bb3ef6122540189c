"""The shape of a classification: a text or two, and a label or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import DataError, listing
from pipeline.config.task import AnyColumns
from pipeline.config.types import STRICT, Text
from pipeline.data.conversations import check_whole
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import Shape, column_of, place_of, text_of
from pipeline.evaluation.names import metric_name

LABEL_CHARACTERS = 200  # MLflow's names of metrics end at 250


@checked(config=STRICT, frozen=True, kw_only=True)
class LabelColumns(AnyColumns):
    """A text or two, and a label or several."""

    text: Text
    text_pair: Text | None  # a second text, read with the first; null: none
    label: Text  # several where the task is multi-label
    label_separator: Text | None  # between the labels of one cell; null: a cell is a list


@dataclass(frozen=True)
class Labelled(Shape):
    """Columns ``text``, ``text_pair`` for pairs, and ``label``.

    A label is a name, whatever its type in the source; with ``many``, a sorted tuple of names.
    """

    has_classes = True
    columns: LabelColumns
    many: bool = False

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return texts and label; a text without letters or a missing label is refused."""
        row: Row = {"text": text_of(values, "data.text", self.columns.text, place)}
        if self.columns.text_pair is not None:
            row["text_pair"] = text_of(values, "data.text_pair", self.columns.text_pair, place)
        if with_targets:
            given = column_of(values, "data.label", self.columns.label, place)
            row["label"] = self._labels(given, place) if self.many else self._label(given, place)
        return row

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep equal texts, or pairs of texts, together."""
        if "text_pair" not in rows.columns:
            return rows["text"]
        return [f"{a}\n{b}" for a, b in zip(rows["text"], rows["text_pair"], strict=True)]

    @property
    def has_one_label(self) -> bool:
        """Whether it is not a set of them."""
        return not self.many

    @property
    def inputs(self) -> Mapping[str, str]:
        """The text, or both."""
        both = {self.columns.text: "text", self.columns.text_pair: "text_pair"}
        return {column: name for column, name in both.items() if column is not None}

    @property
    def label_column(self) -> str:
        """The label's."""
        return self.columns.label

    def strata(self, rows: Rows) -> Sequence[str]:
        """Return the labels; of several the rarest, which is the hardest to distribute."""
        if not self.many:
            return rows["label"]
        counts = Counter(name for names in rows["label"] for name in names)
        return [min(names, key=lambda n: (counts[n], n), default="") for names in rows["label"]]

    def labels(self, rows: Rows) -> Sequence[Sequence[str]]:
        """Return the label, or all of them."""
        return rows["label"] if self.many else [(label,) for label in rows["label"]]

    def check(self, train: Rows) -> list[str]:
        """Refuse labels that are not classes."""
        counts = Counter(name for names in self.labels(train) for name in names)
        self._check_number(train, counts)
        longest = max(sorted(counts), key=len)
        if len(longest) > LABEL_CHARACTERS:
            raise DataError(
                f"{place_of(train)}: a label has {len(longest)} characters ({longest[:40]}…); "
                f"expected at most {LABEL_CHARACTERS}. Is data.label the text?"
            )
        by_name: dict[str, str] = {}
        for label in sorted(counts):
            other = by_name.setdefault(metric_name(label), label)
            if other != label:
                raise DataError(
                    f"{place_of(train)}: the labels {other!r} and {label!r} would share their "
                    f"metrics' names ({metric_name(label)}: letters, digits, _, - and spaces "
                    "only); expected labels that differ in those."
                )
        return []

    def _check_number(self, train: Rows, counts: Mapping[str, int]) -> None:
        if len(counts) < (1 if self.many else 2):
            found = f"every row has the label {train['label'][0]!r}; expected at least two classes"
            none = "no row has a label; expected at least one"
            raise DataError(
                f"{place_of(train)}: {none if self.many else found} (data.label names the column)."
            )
        if len(counts) > len(train) / 2:
            raise DataError(
                f"{place_of(train)}: {len(counts)} different labels on {len(train)} rows; expected "
                "at least two rows a class on average. Is data.label an identifier? Found "
                f"{listing((label[:40] for label in sorted(counts)), most=5)}."
            )

    def _label(self, given: Any, place: str) -> str:
        name = _name(given)
        if not name:
            raise DataError(
                f"{place}: no label: found {given!r} in column {self.columns.label!r}, expected a "
                "name or a whole number."
            )
        check_whole(name, f"{place}: column {self.columns.label!r}")
        return name

    def _labels(self, given: Any, place: str) -> tuple[str, ...]:
        separator = self.columns.label_separator
        if isinstance(given, str) and separator is not None:
            given = [part for part in given.split(separator) if part.strip()]
        if given is None:
            given = []
        if not isinstance(given, list):
            raise DataError(
                f"{place}: found {given!r} in column {self.columns.label!r}, expected a list of "
                "labels, since task.multi_label=true. If a cell holds several, "
                "set data.label_separator to what separates them."
            )
        return tuple(sorted({self._label(one, place) for one in given}))


def _name(value: Any) -> str:
    """Return a label as a name: ``1`` and ``1.0`` are "1"; missing values are empty."""
    if value is None or value != value or isinstance(value, list | dict):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
