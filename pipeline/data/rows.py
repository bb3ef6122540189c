"""Rows: what every source is read into, and what splits and tasks work on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.common.errors import DataError

if TYPE_CHECKING:
    from pipeline.data.shapes import Shape

Values: TypeAlias = Mapping[str, Any]  # what a file holds of one record
Record: TypeAlias = tuple[int, Values]  # line (text formats) or row number, from 1; and the values
Refuse: TypeAlias = Callable[[DataError], None]  # called for a record that cannot be used
Row: TypeAlias = dict[str, Any]  # what is read of it, by the column of `Rows`


@dataclass(frozen=True)
class Rows:
    """Examples as they were read, column by column; ids and columns have the same length.

    ``ids`` say where a row comes from (``train.csv:17`` is the row that starts at line 17) and stay
    with it up to the predictions. The shape says what the columns are.
    """

    shape: "Shape"
    ids: Sequence[str]
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, column: str) -> Sequence[Any]:
        return self.columns[column]

    @cached_property
    def digest(self) -> str:
        """A digest of the columns in their order, independent of where the rows come from."""
        digest = hashlib.blake2b(digest_size=8)
        for values in zip(*self.columns.values(), strict=True):
            digest.update(repr(values).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def take(self, positions: Sequence[int]) -> "Rows":
        """Return the rows at these positions, in this order."""
        columns = {name: [values[i] for i in positions] for name, values in self.columns.items()}
        return Rows(self.shape, [self.ids[i] for i in positions], columns)

    @cached_property
    def strata(self) -> Sequence[str]:
        """The label that a split stratifies each row by; the same for all if there are none."""
        return self.shape.strata(self)

    @cached_property
    def groups(self) -> Sequence[str]:
        """The text of each row; rows with the same text stay in one split."""
        return self.shape.groups(self)
