"""A sampler that begins at the config's own values and keeps to them as long as they do well.

As in PriorBand (Mallik et al., NeurIPS 2023, arXiv 2306.12370) a proposal comes from the whole
space, from a prior around the config's own values, or from around the best trials so far. A share
is drawn from the whole space, 1 / (1 + eta) once eta trials have scores; the rest is divided by how
likely the best trials are under the prior, and around the best of them. So a prior that is right is
used, and a wrong one is left after the first trials. Of a few candidates drawn this way, a Gaussian
process takes the one that it expects most of, as in the paper's extension by a model.
"""

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from pipeline.common.contract import Direction
from pipeline.search.optuna_parts import every_trial, queued_params
from pipeline.search.space.axis import Axis
from pipeline.search.space.dimension import Dimension, Params
from pipeline.search.space.space import Space
from pipeline.search.study.standing import standings
from pipeline.search.study.trials import KILLED, REJECTED, REPLACES, params_of, sign_of
from pipeline.search.surrogate import Position, improvements

CANDIDATES = 4  # for each trial with a score, and one more
MOST_CANDIDATES = 32
APART = 1 / 8  # of the width: a proposal is at least so far from what was tried
DRAWS = 20  # for each candidate, as the filter refuses some and others were tried

_Around = Mapping[str, float]  # positions by key


@dataclass(frozen=True)
class _Tried:
    """A point that was tried, is being tried or waits for it."""

    at: Position
    is_over: bool
    loss: float | None = None  # the share of the others that are better
    may_win: bool = False  # it has a score, and keeps its constraints


class PriorSampler(BaseSampler):
    """Mixes draws from the whole space, around its centre, and around the best trials.

    The first proposal is the centre itself. A key without one is drawn from its whole range, until
    trials have scores. No point is proposed twice, nor one whose numbers are hardly others, as
    long as there are more.

    Args:
        space: with its centre, which has a value of the space for some or all parameters.
        reported: direction of what trials report, where it is not the objective's.
        seed: of this trial's draws; each trial wants a sampler of its own.
        width: a standard deviation of draws around a value, as a share of its range (on its scale)
            or of a list of numbers. A choice of names keeps the value every other time.
        eta: of eta trials with scores one counts as good, and from then on one draw in 1 + eta is
            from the whole space.
    """

    def __init__(
        self,
        space: Space,
        reported: Direction | None = None,
        /,
        *,
        seed: int | None = None,
        width: float = 0.2,
        eta: float = 3.0,
    ) -> None:
        if not 0.01 <= width <= 1:
            raise ValueError(f"width={width}: expected a share of a range, from 0.01 to 1")
        if not 1 < eta <= 100:
            raise ValueError(f"eta={eta}: expected a number above 1, at most 100")
        self._space, self._width, self._eta, self._reported = space, width, eta, reported
        self._axes = {d.key: Axis(d, width) for d in space.dimensions}
        centre = space.own(space.centre)
        own = {key: self._axes[key].position(value) for key, value in centre.items()}
        self._centre = {key: at for key, at in own.items() if at is not None}
        self._chance = random.Random(seed)
        self._others = RandomSampler(seed)

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """Return the whole space: conditional keys are drawn with what opens them."""
        return self._space.distributions

    def sample_independent(self, *asked: Any) -> Any:
        """Draw what custom_search_space adds, at random."""
        return self._others.sample_independent(*asked)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, _: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a point, or the rest of one that is queued in part."""
        trials = [t for t in every_trial(study) if t.number != trial.number]
        replaced = {t.user_attrs.get(REPLACES) for t in trials}
        trials = [
            t
            for t in trials
            if not {KILLED, REJECTED} & t.user_attrs.keys() and t.number not in replaced
        ]
        direction: Direction = "maximize" if sign_of(study.directions[0]) > 0 else "minimize"
        losses = standings(trials, direction, self._reported or direction)
        # In an order of their own: a retry comes later than what it is a retry of.
        tried = sorted(
            (
                _Tried(at, t.state.is_finished(), *losses.get(t.number, ()))
                for t in trials
                if (at := self._position(self._space.own(params_of(t))))
            ),
            key=repr,
        )
        given = self._space.own(queued_params(trial) or {})
        centre = self._space.complete(given, self._own)
        begins = any(  # another worker, which has not said all of its parameters yet
            t.state == TrialState.RUNNING
            and not self._space.unconditional.keys() <= params_of(t).keys()
            and t.number < trial.number
            for t in trials
        )
        if begins or self._is_tried(centre, tried) or not self._space.allows(centre):
            return self._propose(given, tried)
        return centre

    def shares(self, scored: int, best: Sequence[Position]) -> tuple[float, float, float]:
        """Return the shares of draws from the whole space, around the centre, around the best.

        Args:
            scored: how many trials have scores.
            best: the best of them that may win, the best first.
        """
        if not scored:
            return 0.5, 0.5, 0.0
        if not best:  # what was tried, the centre first of all, cannot work
            return 1.0, 0.0, 0.0
        whole = 1 / (1 + min(scored, self._eta))
        weights = range(len(best), 0, -1)
        prior, near = (
            sum(w * self._density(around, at) for w, at in zip(weights, best, strict=True))
            for around in (self._centre, self._known(best[0]))
        )
        centre = (1 - whole) * prior / (prior + near)
        return whole, centre, 1 - whole - centre

    def _propose(self, given: Params, tried: Sequence[_Tried]) -> Params:
        """Return the candidate of which most is expected."""
        scored = sorted((t for t in tried if t.loss is not None), key=lambda t: t.loss or 0.0)
        best = [t.at for t in scored[: math.ceil(len(scored) / self._eta)] if t.may_win]
        sources = [(), (self._centre,), [{**self._centre, **self._known(at)} for at in best]]
        (source,) = self._chance.choices(sources, self.shares(len(scored), best))
        many = min(CANDIDATES * (1 + len(scored)), MOST_CANDIDATES)
        seen = [t.at for t in tried]
        found = next(
            filter(None, (self._draw(many, *how, given, seen) for how in self._ways(source))), None
        )
        if not found:
            return self._space.draw(given, str(self._chance.random()))
        has_order = [axis.dimension.is_numeric for axis in self._axes.values()]
        known = [t for t in tried if t.loss is not None or not t.is_over]
        points, losses = [t.at for t in known], [t.loss for t in known]
        gains = improvements(points, losses, list(found), has_order, self._width)
        return max(zip(gains, found.values(), strict=True), key=itemgetter(0))[1]

    def _ways(self, source: Sequence[_Around]) -> Iterator[tuple[Sequence[_Around], float]]:
        """Yield around what to draw, and how far from what was tried; at last anything new."""
        apart = APART * self._width
        yield source, apart
        yield (), apart
        yield (), 0.0

    def _draw(
        self,
        many: int,
        around: Sequence[_Around],
        apart: float,
        given: Params,
        seen: Collection[Position],
    ) -> dict[Position, Params]:
        """Draw points so far from those seen, around one of these, the first ones more often."""
        weights = range(len(around), 0, -1)
        found: dict[Position, Params] = {}
        for _ in range(DRAWS * many):
            near = self._chance.choices(around, weights)[0] if around else {}
            point = self._space.complete(given, partial(self._near, near))
            at = self._position(point)
            if at is None or not self._space.allows(point):
                continue
            if not any(self._is_near(at, other, apart) for other in seen):
                found[at] = point
            if len(found) == many:
                break
        return found

    def _is_near(self, at: Position, other: Position, apart: float) -> bool:
        """Whether two points are the same but for numbers that are hardly apart."""
        return all(
            x == y
            or (
                axis.dimension.is_numeric and x is not None and y is not None and abs(x - y) < apart
            )
            for axis, x, y in zip(self._axes.values(), at, other, strict=True)
        )

    def _near(self, around: _Around, dimension: Dimension) -> Any:
        axis = self._axes[dimension.key]
        at = around.get(dimension.key)
        if at is None:
            return dimension.draw(self._chance)
        return axis.value(axis.draw_near(at, self._chance))

    def _own(self, dimension: Dimension) -> Any:
        """Return the centre's value of a dimension, or draw where it has none."""
        has_own = dimension.key in self._centre
        return self._space.centre[dimension.key] if has_own else dimension.draw(self._chance)

    def _is_tried(self, centre: Params, tried: Sequence[_Tried]) -> bool:
        """Whether a trial had the centre's values, whatever it had where the centre has none."""
        own = self._known(self._position(centre) or ())
        wanted = {key: at for key, at in own.items() if key in self._centre}
        return any(wanted.items() <= self._known(t.at).items() for t in tried)

    def _position(self, params: Params) -> Position | None:
        """Return where a point lies; None where it is none, or not one of this space."""
        at = {key: self._axes[key].position(value) for key, value in params.items()}
        return None if not at or None in at.values() else tuple(map(at.get, self._axes))

    def _known(self, at: Position) -> dict[str, float]:
        """Return a position by key, of the keys that it has."""
        return {key: x for key, x in zip(self._axes, at, strict=False) if x is not None}

    def _density(self, around: _Around, at: Position) -> float:
        """Return the density of draws around a point; that of draws from the whole space is 1."""
        known = self._known(at)
        return math.prod(
            self._axes[key].density_near(around[key], known[key])
            for key in around.keys() & known.keys()
        )
