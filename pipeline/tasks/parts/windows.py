"""Rows as overlapping windows, whose tokens have a place in their row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.tasks.base import Array, Examples

if TYPE_CHECKING:
    from pipeline.tasks.parts.long_rows import Read


@dataclass(frozen=True)
class Windows(Examples):
    """Parts of rows. ``places`` has an array for each: where in its row what it reads is."""

    places: Sequence[Array] = ()  # [2, n]; a task says of what, and where

    def of_rows(self, positions: Sequence[int]) -> Windows:
        """Return the windows of some rows."""
        some, asked = super().of_rows(positions), set(positions)
        kept = [p for p, row in zip(self.places, self.row, strict=True) if row in asked]
        return Windows(some.rows, some.dataset, some.truncated, places=kept)


def take_offsets(read: Read, text: int) -> list[Array]:
    """Take the characters that each window's tokens span out of what was read, [2, tokens].

    -1: a token that is not from this text, the first or the second.
    """
    import numpy as np

    parts = zip(read.columns.pop("offset_mapping"), read.columns.pop("text_of"), strict=True)
    return [
        np.where(np.array(of) == text, np.array(spans, dtype=np.int32).T, np.int32(-1))
        for spans, of in parts
    ]
