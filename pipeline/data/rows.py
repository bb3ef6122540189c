"""Rows: what every source becomes, and what the splits and tasks work on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


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
