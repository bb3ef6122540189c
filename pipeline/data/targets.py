"""What a task has to know of the training rows' targets before it reads any row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Moments(NamedTuple):
    """Numbers of training rows: mean, standard deviation (of the population) and range."""

    mean: float
    deviation: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Moments:
        """Return those of numbers, of which there is one at least."""
        from statistics import fmean, pstdev

        mean = fmean(numbers)
        return cls(mean, pstdev(numbers, mean), min(numbers), max(numbers))


@dataclass(frozen=True)
class Targets:
    """Labels and how often they occur, or numbers and their scale; a text has neither."""

    counts: Mapping[str, int] = field(default_factory=dict)  # rows a label, labels sorted
    moments: Mapping[str, Moments] = field(default_factory=dict)  # of each column of numbers
