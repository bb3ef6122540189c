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
    """Parts of rows.

    ``places`` has an array for each, [2, n]. Of question answering it holds the first character of
    each token in the context, and the one after its last; of token classification each word that
    is read, and the token where it begins.
    """

    places: Sequence[Array] = ()

    def of_rows(self, positions: Sequence[int]) -> Windows:
        """Return the windows of some rows."""
        some, asked = super().of_rows(positions), set(positions)
        kept = [p for p, row in zip(self.places, self.row, strict=True) if row in asked]
        return Windows(some.rows, some.dataset, some.truncated, places=kept)


def take_offsets(read: Read, text: int) -> list[Array]:
    """Remove the offsets from what was read; return the characters of each token, [2, tokens].

    -1: a token that is not from this text, the first or the second.
    """
    import numpy as np

    parts = zip(read.columns.pop("offset_mapping"), read.columns.pop("text_of"), strict=True)
    return [
        np.where(np.array(of) == text, np.array(spans, dtype=np.int32).T, np.int32(-1))
        for spans, of in parts
    ]
