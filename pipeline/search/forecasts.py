"""What a search is expected to cost: by the first steps of its trials, or by steps timed before."""

import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import optuna
from omegaconf import DictConfig

from pipeline.common.contract import RunCost
from pipeline.common.timing import booked
from pipeline.search.cost import Spent, forecast, span, spread
from pipeline.search.searchable import Searchable
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import TIMING
from pipeline.search.workers.sizing import WorkerPlan

log = logging.getLogger(__name__)


class Forecast:
    """The forecast of one start of a search; it is said once it is known.

    Args:
        task: knows what a run costs.
        stages: of the search, one if it has none: configs that stand for its trials, of a grid its
            points in their order, and how many are left to run.
        spec: of the study.
        plan: the workers.
        began: when the command was started, as of `time.time`.
        before: what earlier starts have cost.
        models: weights that are still to be kept.
        say: prints lines.
    """

    def __init__(
        self,
        task: Searchable,
        stages: Sequence[tuple[Sequence[DictConfig], int]],
        spec: StudySpec,
        plan: WorkerPlan,
        began: float,
        before: Spent,
        models: int,
        say: Callable[..., None],
    ) -> None:
        self.spent: Spent | None = None  # None: not known, or not yet
        self._task, self._stages = task, stages
        self._configs = [config for configs, _ in stages for config in configs]
        self._spec, self._plan, self._before, self._models = spec, plan, before, models
        self._began, self._say = began, say
        self._begun = 0.0  # seconds until the first trial
        self._costs: Callable[[Any], Sequence[RunCost]] | None = None  # of what a trial notes

    def begin(self) -> None:
        """Prepare to learn it of the first trial, or time steps where one cannot tell of all."""
        self._costs = self._task.costs_by_trial(self._configs)
        self._begun = time.time() - self._began
        if self._costs is None:
            self.time()

    def time(self) -> None:
        """Time a few steps now, while no trial runs."""
        with booked("forecast"):
            costs = self._tried(lambda: self._task.costs(self._configs, self._plan))
        self._begun = time.time() - self._began
        self._make(costs)

    def look(self, study: optuna.Study) -> None:
        """Make it of the first trial that has noted what its steps took."""
        if self.spent is not None or self._costs is None:
            return
        noted = (t.user_attrs.get(TIMING) for t in study.get_trials(deepcopy=False))
        timing = next(filter(None, noted), None)
        if timing is not None:
            costs, self._costs = self._costs, None
            self._make(self._tried(lambda: costs(timing)))

    def _tried(self, costs: Callable[[], Sequence[RunCost]]) -> Sequence[RunCost]:
        try:
            return costs()
        except Exception as error:  # the trials will say what is wrong, each in its record
            log.warning("no forecast", exc_info=True)
            said = " ".join(str(error).split())[:200]
            self._say(f"no forecast: {type(error).__name__}: {said}")
            return []

    def _make(self, costs: Sequence[RunCost]) -> None:
        if not costs:
            return
        known = iter(costs)
        self.spent = forecast(
            [spread(list(islice(known, len(some))), left) for some, left in self._stages],
            len(self._spec.seeds) or 1,
            self._plan.workers,
            self._spec.budget.rates,
            begun=self._begun,
            before=self._before,
            models=self._models,
        )
        earlier = self._before.seconds
        of_them = f", {span(earlier)} of it in earlier starts" if earlier else ""
        pruned = ", if no trial is pruned" if self._spec.prunes else ""
        self._say(f"forecast: {self.spent}{of_them}{pruned}")
