"""The shape of rows with a text or two, and a target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.dataclasses import dataclass as checked

from pipeline.config.task import AnyColumns
from pipeline.config.types import STRICT, Text
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import Shape, text_of


def column_list(value: Any, expected: str) -> Any:
    """Return a column, or a list of columns as a tuple.

    Raises:
        ValueError: saying what was expected.
    """
    several = list(value) if isinstance(value, list | tuple) else [value]
    if not (several and all(isinstance(one, str) and one for one in several)):
        raise ValueError(expected)
    if twice := [one for one in several if several.count(one) > 1]:
        raise ValueError(f"Input names the column {twice[0]!r} twice, expected each column once")
    return tuple(several) if isinstance(value, list | tuple) else value


@checked(config=STRICT, frozen=True, kw_only=True)
class TextColumns(AnyColumns):
    """A text or two."""

    text: Text
    text_pair: Text | None  # a second text, read with the first; null: none


@dataclass(frozen=True)
class Texts(Shape):
    """Columns ``text``, ``text_pair`` for pairs, and ``label``, the target."""

    columns: TextColumns

    @abstractmethod
    def target(self, values: Values, place: str) -> Any:
        """Return what is to be predicted of a record.

        Raises:
            DataError: for a value that is none.
        """

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return texts and target; a text without letters, or no target, is refused."""
        row: Row = {"text": text_of(values, "data.text", self.columns.text, place)}
        if self.columns.text_pair is not None:
            row["text_pair"] = text_of(values, "data.text_pair", self.columns.text_pair, place)
        if with_targets:
            row["label"] = self.target(values, place)
        return row

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep equal texts, or pairs of texts, together."""
        if "text_pair" not in rows.columns:
            return rows["text"]
        return [f"{a}\n{b}" for a, b in zip(rows["text"], rows["text_pair"], strict=True)]

    @property
    def inputs(self) -> Mapping[str, str]:
        """The text, or both."""
        both = {self.columns.text: "text", self.columns.text_pair: "text_pair"}
        return {column: name for column, name in both.items() if column is not None}
