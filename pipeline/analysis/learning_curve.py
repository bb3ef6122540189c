"""How a score grows with the training rows: a power law, and the gain from more data.

Hestness et al., 2017: Deep learning scaling is predictable, empirically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LEAST = 3  # numbers of rows below which nothing is fitted
_EXPONENTS = np.linspace(0.05, 2.0, 79)
_RESAMPLES = 1000
_SEED = 0


@dataclass(frozen=True)
class LearningCurve:
    """``score = limit - factor * rows ** -exponent``; of a loss the factor is below 0."""

    metric: str
    rows: Sequence[int]  # of each point
    scores: Sequence[float]
    limit: float
    factor: float
    exponent: float
    most: int  # rows that were trained on
    doubled: float  # expected gain from twice as many
    error: float  # of that, by bootstrap: standard deviation
    interval: tuple[float, float]  # of that, 95 %

    def at(self, rows: float) -> float:
        """Return the fitted score of so many rows."""
        return float(self.limit - self.factor * rows**-self.exponent)

    def lines(self) -> list[str]:
        """Return it as text."""
        low, high = self.interval
        return [
            f"learning curve: {self.metric} = {self.limit:.4f} - {self.factor:.4g} · "
            f"rows^-{self.exponent:.2f}, fitted to {len(self.scores)} runs",
            f"twice the data ({2 * self.most:,} rows) is expected to bring {self.doubled:+.4f} ± "
            f"{self.error:.4f} {self.metric} (95 %: {low:+.4f} to {high:+.4f})",
        ]

    def as_tree(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def fit_power_law(
    rows: Sequence[int], scores: Sequence[float], metric: str, bound: float | None = None
) -> LearningCurve | None:
    """Fit a power law by least squares; None where there are fewer than `LEAST` numbers of rows.

    The interval is of curves fitted to the same numbers of rows with resampled residuals.
    The gain may have the wrong sign: then more data did not help.

    Args:
        rows: that each run was trained on.
        scores: of the runs.
        metric: what the scores are.
        bound: the best score possible, such as 1 for an F1 or 0 for a loss; None: unknown.
    """
    if len(set(rows)) < LEAST:
        return None
    n, y = np.array(rows, dtype=float), np.array(scores)
    limit, factor, exponent = _fit(n, y[None], bound)
    fitted = limit - factor * n[None] ** -exponent[:, None]
    freedom = max(1, len(y) - 3)
    residuals = (y - fitted[0]) * np.sqrt(len(y) / freedom)  # else their spread is too small
    chance = np.random.default_rng(_SEED)
    drawn = fitted + chance.choice(residuals, (_RESAMPLES, len(y)))
    most = max(rows)
    _, factors, exponents = _fit(n, drawn, bound)
    gains = _gain(factors, exponents, most)
    low, high = np.quantile(gains, (0.025, 0.975))
    return LearningCurve(
        metric,
        list(rows),
        list(scores),
        float(limit[0]),
        float(factor[0]),
        float(exponent[0]),
        most,
        float(_gain(factor, exponent, most)[0]),
        float(gains.std(ddof=1)),
        (float(low), float(high)),
    )


def _fit(n: Array, y: Array, bound: float | None) -> tuple[Array, Array, Array]:
    """Return limit, factor and exponent of each row of scores: linear for each exponent."""
    powers = n[None] ** -_EXPONENTS[:, None]  # [exponents, points]
    centred = powers - powers.mean(axis=1, keepdims=True)
    deviations = y - y.mean(axis=1, keepdims=True)
    factors = -(deviations @ centred.T) / (centred**2).sum(axis=1)  # [curves, exponents]
    limits = y.mean(axis=1, keepdims=True) + factors * powers.mean(axis=1)
    if bound is not None:
        # Where scores rise the limit is at most the bound, where they fall at least.
        beyond = (limits - bound) * np.sign(factors) > 0
        through = ((bound - y) @ powers.T) / (powers**2).sum(axis=1)
        limits, factors = np.where(beyond, bound, limits), np.where(beyond, through, factors)
    fitted = limits[..., None] - factors[..., None] * powers
    best = ((y[:, None] - fitted) ** 2).sum(axis=2).argmin(axis=1)
    rows = np.arange(len(y))
    return limits[rows, best], factors[rows, best], _EXPONENTS[best]


def _gain(factor: Array, exponent: Array, rows: int) -> Array:
    found: Array = factor * (rows**-exponent - (2.0 * rows) ** -exponent)
    return found
