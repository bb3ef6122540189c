"""The shape of rows with a text or two, and a number or several."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import DataError
from pipeline.config.types import STRICT
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import column_of, place_of, value_in
from pipeline.data.targets import Moments
from pipeline.data.values import is_blank
from pipeline.tasks.parts.text_rows import TextColumns, Texts, column_list

_PARTS = 10  # of the numbers' range, by which splits are stratified
_MOST = 1e100  # the squares of more would be infinite


def _columns(value: Any) -> Any:
    columns = column_list(value, "Input should be a column of numbers, or a list of them")
    return columns if isinstance(columns, tuple) else (columns,)


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
        if not with_targets and self.one_will_do and pair and value_in(values, pair) is None:
            alone = replace(self, columns=replace(self.columns, text_pair=None))
            return alone.read(values, place, with_targets=False)
        return super().read(values, place, with_targets=with_targets)

    def moments(self, rows: Rows) -> Mapping[str, Moments]:
        """Return the scale of each column of numbers."""
        every = zip(*rows["label"], strict=True)
        return {
            column: Moments.of(numbers)
            for column, numbers in zip(self.columns.label, every, strict=True)
        }

    def strata(self, rows: Rows) -> Sequence[str]:
        """Return which part of the range each row's first number is in, of ten or fewer."""
        import numpy as np

        numbers = np.array([of[0] for of in rows["label"]])
        parts = max(1, min(_PARTS, len(numbers) // _PARTS))
        edges = np.quantile(numbers, np.arange(1, parts) / parts)
        return [str(part) for part in np.searchsorted(edges, numbers, side="right")]

    def check(self, train: Rows) -> list[str]:
        """Refuse numbers that are all the same; return those of which there are but two."""
        odd = []
        for column, numbers in zip(
            self.columns.label, zip(*train["label"], strict=True), strict=True
        ):
            found = sorted(set(numbers))
            if len(found) < 2:
                raise DataError(
                    f"{place_of(train)}: every row has the number {found[0]!r} in column "
                    f"{column!r}; expected at least two different ones (data.label names the "
                    "column)."
                )
            if len(found) == 2:
                odd.append(
                    f"column {column!r} holds {found[0]!r} and {found[1]!r} alone: if these are "
                    "classes, task=classification predicts them"
                )
        return odd

    def shown(self, numbers: Sequence[float]) -> float | dict[str, float]:
        """Return numbers as a table shows them: one as it is, several by column."""
        if len(self.columns.label) == 1:
            return numbers[0]
        return dict(zip(self.columns.label, numbers, strict=True))


def _number(given: Any, column: str, place: str) -> float:
    if given is None or given != given or (isinstance(given, str) and is_blank(given)):
        raise DataError(f"{place}: no number: found {given!r} in column {column!r}.")
    is_odd = isinstance(given, bool) or (isinstance(given, str) and "_" in given)
    try:
        number = math.nan if is_odd else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= _MOST:
        hint = " If labels are classes: task=classification."
        if isinstance(given, str) and "," in given and not re.search("[^-+,.0-9 ]", given):
            hint = " Write 1234.5: a point before decimals, and no commas."
        raise DataError(
            f"{place}: found {reprlib.repr(given)} in column {column!r}; expected a finite number."
            f"{hint}"
        )
    return number
