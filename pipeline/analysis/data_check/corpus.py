"""The rows of all splits, one after the other, as the data check reads them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from pipeline.data import Rows
from pipeline.data.shapes import Shape

_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Corpus:
    """Rows by split; what is read of them is in one list each, split after split."""

    splits: Mapping[str, Rows]

    @property
    def shape(self) -> Shape:
        """What is read of a record, the same in all splits."""
        return next(iter(self.splits.values())).shape

    @cached_property
    def split(self) -> list[str]:
        """The split of each row."""
        return [name for name, rows in self.splits.items() for _ in rows.ids]

    @cached_property
    def ids(self) -> list[str]:
        """Where each row comes from."""
        return list(chain.from_iterable(rows.ids for rows in self.splits.values()))

    @cached_property
    def texts(self) -> list[str]:
        """What the model reads of each row."""
        return list(chain.from_iterable(rows.shape.texts(rows) for rows in self.splits.values()))

    @cached_property
    def labels(self) -> list[tuple[str, ...]]:
        """The labels of each row; empty tuples where the task has no classes."""
        return [
            tuple(names) if rows.shape.has_classes else ()
            for rows in self.splits.values()
            for names in rows.shape.labels(rows)
        ]

    @cached_property
    def normal(self) -> list[str]:
        """The texts reduced to their words: without case, punctuation and white space."""
        return [normalised(text) for text in self.texts]

    def groups_of(self, positions: Sequence[Sequence[int]]) -> list[list[str]]:
        """Return the ids of groups of rows."""
        return [[self.ids[i] for i in group] for group in positions]


def normalised(text: str) -> str:
    """Return a text without case, punctuation and width, or as it is if nothing would be left."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _NO_WORD.sub(" ", plain.casefold()).strip() or plain.strip()


def repeated(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the positions of each key that occurs more than once."""
    first: dict[Hashable, int] = {}
    groups: dict[int, list[int]] = {}
    for i, key in enumerate(keys):
        at = first.setdefault(key, i)
        if at != i:
            groups.setdefault(at, [at]).append(i)
    return list(groups.values())
