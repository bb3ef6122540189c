"""A dimension as a line from 0 to 1, on which near values do alike."""

import math
import random
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from optuna.distributions import CategoricalDistribution, IntDistribution

from pipeline.search.space.dimension import Dimension

_NORMAL = NormalDist()
NEAR = 1e-9  # that two positions may differ by rounding


@dataclass(frozen=True)
class Axis:
    """Where a dimension's values lie: numbers in their order, other choices side by side.

    A choice of numbers has even steps: who lists 8, 16, 32 or 1e-5, 1e-4, 1e-3 says what a step is.
    """

    dimension: Dimension
    width: float  # of what is near a value, as a share of the line: a standard deviation

    @cached_property
    def _choices(self) -> list[Any] | None:
        """The values of a choice, numbers in their order; None of a range."""
        d = self.dimension.distribution
        if not isinstance(d, CategoricalDistribution):
            return None
        choices: list[Any] = list(d.choices)
        return sorted(choices) if self.dimension.is_numeric else choices

    def position(self, value: Any) -> float | None:
        """Return where a value lies; None where it is none of the dimension's."""
        d, count = self.dimension.distribution, self.dimension.count()
        if isinstance(d, CategoricalDistribution):
            same = (n for n, v in enumerate(self._choices or ()) if v is value or v == value)
            place = next(same, None)
            return None if place is None else (place + 0.5) / len(d.choices)
        if not isinstance(value, int | float) or not d.low <= value <= d.high:
            return None
        if count is not None:
            return (round((value - d.low) / (d.step or 1)) + 0.5) / count
        low, high, own = (math.log(x) if d.log else x for x in (d.low, d.high, value))
        return float((own - low) / (high - low)) if high > low else 0.5

    def value(self, position: float) -> Any:
        """Return the value that lies there."""
        d, count = self.dimension.distribution, self.dimension.count()
        if count is not None:
            place = min(int(position * count), count - 1)
            return self.dimension.nth(place) if self._choices is None else self._choices[place]
        assert not isinstance(d, CategoricalDistribution)
        low, high = (math.log(x) if d.log else x for x in (d.low, d.high))
        own = low + position * (high - low)
        value = min(max(math.exp(own) if d.log else own, d.low), d.high)
        return round(value) if isinstance(d, IntDistribution) else value

    def draw_near(self, centre: float, chance: random.Random) -> float:
        """Draw a position by a normal distribution that ends where the line does.

        Without order it is every other time the centre.
        """
        if not self.dimension.is_numeric:
            return centre if chance.random() < 0.5 else chance.random()
        low, high = self._mass(centre)
        drawn = _NORMAL.inv_cdf(chance.uniform(low, high))
        return min(max(centre + self.width * drawn, 0.0), 1.0)

    def density_near(self, centre: float, position: float) -> float:
        """Return the density of such draws; that of even draws is 1."""
        if not self.dimension.is_numeric:
            count = self.dimension.count() or 1
            return (count + 1) / 2 if abs(position - centre) < NEAR else 0.5
        low, high = self._mass(centre)
        return _NORMAL.pdf((position - centre) / self.width) / self.width / (high - low)

    def _mass(self, centre: float) -> tuple[float, float]:
        low, high = ((end - centre) / self.width for end in (0.0, 1.0))
        return _NORMAL.cdf(low), _NORMAL.cdf(high)
