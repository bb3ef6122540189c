"""Rows: what every source becomes, and what the splits and tasks work on."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Rows:
    """Labelled texts, column by column; the three columns are of one length.

    ``ids`` say where a row comes from (``train.csv:17`` is the row that starts at line 17) and
    follow it to the predictions. ``labels`` are names, whatever the source held.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    labels: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """A digest of texts and labels in their order; where they come from has no part in it."""
        digest = hashlib.blake2b(digest_size=8)
        for pair in zip(self.texts, self.labels, strict=True):
            digest.update(repr(pair).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def take(self, positions: Sequence[int]) -> "Rows":
        """Return the rows at these positions, in this order."""
        return Rows(
            [self.ids[i] for i in positions],
            [self.texts[i] for i in positions],
            [self.labels[i] for i in positions],
        )

    def label_counts(self) -> dict[str, int]:
        """Return rows a label, labels sorted."""
        return dict(sorted(Counter(self.labels).items()))
