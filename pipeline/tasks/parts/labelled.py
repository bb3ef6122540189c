"""The shape of a classification: a text or two, and a label or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator
from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import DataError, listing
from pipeline.config.types import STRICT, Text, conflict
from pipeline.data.rows import Rows, Values
from pipeline.data.shapes import column_of, place_of, rarest
from pipeline.data.values import check_whole, is_blank, is_missing_word, is_number, label_name
from pipeline.tasks.parts.text_rows import TextColumns, Texts, column_list

LABEL_CHARACTERS = 200  # most of a class's name
_GRADES = 11  # from 0 to 10
_MARKS = {"0": False, "1": True, "false": False, "true": True}  # of a label that has a column


def _label_columns(value: Any) -> Any:
    return column_list(value, "Input should be a column, or a list of columns that hold 0 or 1")


def _missing_labels(value: Any) -> Any:
    # YAML and Hydra read these words as values: [NA,nan,null]
    if isinstance(value, list | tuple):
        return ["null" if one is None else str(one) for one in value]
    return value


@checked(config=STRICT, frozen=True, kw_only=True)
class LabelColumns(TextColumns):
    """A text or two, and a label or several."""

    not_columns = frozenset({"label_separator", "missing_labels"})

    # Several where the task is multi-label; a list: the labels are its columns of 0 and 1.
    label: Annotated[str | tuple[str, ...], BeforeValidator(_label_columns)]
    label_separator: Text | None  # between the labels of one cell; null: a cell is a list
    # Words for a missing label, in any case; null: none, but `check` names those that look like
    # one. Saved models know no such key.
    missing_labels: Annotated[tuple[Text, ...] | None, BeforeValidator(_missing_labels)] = None

    @model_validator(mode="after")
    def _separates_cells(self) -> LabelColumns:
        if self.label_separator is not None and not isinstance(self.label, str):
            raise conflict(
                f"data.label_separator={self.label_separator!r}: expected null, since each column "
                "of data.label is one label"
            )
        return self


@dataclass(frozen=True)
class Labelled(Texts):
    """A text or two, and a label.

    It is a name, whatever its type in the source; with ``many``, a sorted tuple of names.
    """

    has_classes = True
    columns: LabelColumns
    many: bool = False

    def target(self, values: Values, place: str) -> str | tuple[str, ...]:
        """Return the label, or all; a missing one is refused."""
        return self._labels(values, place) if self.many else self._label(values, place)

    @property
    def has_one_label(self) -> bool:
        """Whether it is not a set of them."""
        return not self.many

    @property
    def label_column(self) -> str | None:
        """The label's; none if each label has a column."""
        return self.columns.label if isinstance(self.columns.label, str) else None

    def strata(self, rows: Rows) -> Sequence[str]:
        """Return the labels; of several the rarest."""
        return rarest(rows["label"]) if self.many else rows["label"]

    def labels(self, rows: Rows) -> Sequence[Sequence[str]]:
        """Return the label, or all of them."""
        return rows["label"] if self.many else [(label,) for label in rows["label"]]

    def doubtful_labels(self, labels: Iterable[str]) -> list[str]:
        """Return words that other tools write for a missing value, unless they are decided on."""
        is_open = self.columns.missing_labels is None
        return [label for label in labels if is_open and is_missing_word(label)]

    def check(self, train: Rows) -> list[str]:
        """Refuse labels that are not classes; return the columns that mark no row."""
        counts = Counter(name for names in self.labels(train) for name in names)
        self._check_number(train, counts)
        longest = max(sorted(counts), key=len)
        if len(longest) > LABEL_CHARACTERS:
            raise DataError(
                f"{place_of(train)}: a label has {len(longest)} characters ({longest[:40]}…); "
                f"expected at most {LABEL_CHARACTERS}. Is data.label the text?"
            )
        columns, odd = self.columns.label, []
        absent = [] if isinstance(columns, str) else [repr(c) for c in columns if c not in counts]
        if absent:
            odd.append(f"no row of train has a 1 in the column {listing(absent)}: it is no label")
        if not self.many and len(counts) > _GRADES and all(map(is_number, counts)):
            odd.append(
                f"the labels are {len(counts)} different numbers, and are learned as classes; "
                "task=regression learns how far apart they are"
            )
        return odd

    def _check_number(self, train: Rows, counts: Mapping[str, int]) -> None:
        if len(counts) < (1 if self.many else 2):
            found = f"every row has the label {train['label'][0]!r}; expected at least two classes"
            none = "no row has a label; expected at least one"
            raise DataError(
                f"{place_of(train)}: {none if self.many else found} (data.label names the column)."
            )
        if len(counts) > len(train) / 2:
            hint = " Or a quantity? task=regression predicts numbers."
            quantity = hint if all(map(is_number, counts)) else ""
            raise DataError(
                f"{place_of(train)}: {len(counts)} different labels on {len(train)} rows; expected "
                f"at least two rows a class on average. Is data.label an identifier?{quantity} "
                f"Found {listing((label[:40] for label in sorted(counts)), most=5)}."
            )

    def _label(self, values: Values, place: str) -> str:
        column = self.columns.label
        assert isinstance(column, str)  # see LabelTask.shape
        return self._named(column_of(values, "data.label", column, place), column, place)

    def _labels(self, values: Values, place: str) -> tuple[str, ...]:
        column, separator = self.columns.label, self.columns.label_separator
        if not isinstance(column, str):
            return self._marked(values, column, place)
        given = column_of(values, "data.label", column, place)
        if given is None or self._is_missing(given):
            given = []
        elif isinstance(given, str) and separator is not None:
            given = [part for part in given.split(separator) if part.strip()]
        if not isinstance(given, list):
            raise DataError(
                f"{place}: found {given!r} in column {column!r}, expected a list of "
                "labels, since task.multi_label=true. If a cell holds several, "
                "set data.label_separator to what separates them; columns of 0 and 1 are a list: "
                f"data.label=[{column},…]."
            )
        named = [one for one in given if not self._is_missing(one)]
        return tuple(sorted({self._named(one, column, place) for one in named}))

    def _marked(self, values: Values, columns: Sequence[str], place: str) -> tuple[str, ...]:
        """Return the columns that hold a 1."""
        found = []
        for column in columns:
            given = column_of(values, "data.label", column, place)
            mark = _MARKS.get(label_name(given).casefold())
            if mark is None:
                raise DataError(
                    f"{place}: found {given!r} in column {column!r}, expected 0 or 1, since "
                    "each column of data.label is one label."
                )
            if mark:
                found.append(column)
        return tuple(sorted(found))

    def _named(self, given: Any, column: str, place: str) -> str:
        name = label_name(given)
        is_empty = is_blank(name)
        if is_empty or self._is_missing(given):
            word = "" if is_empty else " (one of data.missing_labels)"
            raise DataError(
                f"{place}: no label: found {given!r}{word} in column {column!r}, expected a name "
                "or a whole number."
            )
        check_whole(name, f"{place}: column {column!r}")
        return name

    def _is_missing(self, given: Any) -> bool:
        """Whether it is a word for a missing label."""
        return bool(self._missing) and label_name(given).casefold() in self._missing

    @cached_property
    def _missing(self) -> frozenset[str]:
        return frozenset(label_name(word).casefold() for word in self.columns.missing_labels or ())
