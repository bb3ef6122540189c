"""The shape of rows with a text or two, and a number or several."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import DataError
from pipeline.config.types import STRICT
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import column_of, place_of
from pipeline.data.targets import Moments
from pipeline.tasks.parts.text_rows import TextColumns, Texts

_CLASSES = "; expected a finite number. If labels are classes: task=classification."


def _columns(value: Any) -> Any:
    several = list(value) if isinstance(value, list | tuple) else [value]
    if not (several and all(isinstance(one, str) and one for one in several)):
        raise ValueError("Input should be a column of numbers, or a list of them")
    if twice := [one for one in several if several.count(one) > 1]:
        raise ValueError(f"Input names the column {twice[0]!r} twice, expected each column once")
    return tuple(several)


@checked(config=STRICT, frozen=True, kw_only=True)
class NumberColumns(TextColumns):
    """A text or two, and a number or several."""

    label: Annotated[tuple[str, ...], BeforeValidator(_columns)]  # each a column of numbers


@dataclass(frozen=True)
class Rated(Texts):
    """A text or two, and numbers: a tuple with one of each column."""

    columns: NumberColumns
    one_will_do: bool = False  # whether prediction reads records that lack the second text

    def target(self, values: Values, place: str) -> tuple[float, ...]:
        """Return the numbers; a text that is written as a number is one."""
        return tuple(
            _number(column_of(values, "data.label", column, place), column, place)
            for column in self.columns.label
        )

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return texts and numbers."""
        pair = self.columns.text_pair
        if not with_targets and self.one_will_do and pair not in values:
            alone = Rated(NumberColumns(**{**vars(self.columns), "text_pair": None}))
            return alone.read(values, place, with_targets=False)
        return super().read(values, place, with_targets=with_targets)

    def moments(self, rows: Rows) -> Mapping[str, Moments]:
        """Return the scale of each column of numbers."""
        every = zip(*rows["label"], strict=True)
        return {
            column: Moments.of(numbers)
            for column, numbers in zip(self.columns.label, every, strict=True)
        }

    def check(self, train: Rows) -> list[str]:
        """Refuse numbers that are all the same; return those of which there are but two."""
        odd = []
        for column, numbers in zip(
            self.columns.label, zip(*train["label"], strict=True), strict=True
        ):
            found = sorted(set(numbers))
            if len(found) < 2:
                raise DataError(
                    f"{place_of(train)}: every row has the number {found[0]:g} in column "
                    f"{column!r}; expected at least two different ones (data.label names the "
                    "column)."
                )
            if len(found) == 2:
                odd.append(
                    f"column {column!r} holds {found[0]:g} and {found[1]:g} alone: if these are "
                    "classes, task=classification predicts them"
                )
        return odd

    def shown(self, numbers: Sequence[float]) -> float | dict[str, float]:
        """Return numbers as a table shows them: one as it is, several by column."""
        if len(self.columns.label) == 1:
            return numbers[0]
        return dict(zip(self.columns.label, numbers, strict=True))


def _number(given: Any, column: str, place: str) -> float:
    try:
        number = math.nan if given is None or isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{place}: found {reprlib.repr(given)} in column {column!r}{_CLASSES}{_hint(given)}"
        )
    return number


def _hint(given: Any) -> str:
    """Return what to do about a number with a comma, or nothing."""
    if not isinstance(given, str) or "," not in given:
        return ""
    try:
        float(given.replace(",", "."))
    except ValueError:
        return ""
    return " Write decimal points, not commas."
