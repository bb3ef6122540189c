"""What a search needs to know of the function it searches over."""

import gc
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optuna import TrialPruned

from pipeline.common.contract import Direction, RunCost, State
from pipeline.common.errors import ConfigError, TrialStoppedError, TunewrightError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from optuna import Study
    from optuna.trial import FrozenTrial

    from pipeline.search.cost import Spent
    from pipeline.search.space.space import Space
    from pipeline.search.spending import Spending
    from pipeline.search.study.study import StudySpec
    from pipeline.search.workers.reporter import Reporter
    from pipeline.search.workers.sizing import WorkerPlan


SEED = "seed"  # key of the config that the repeats of a point differ in

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialJob:
    """One trial, as the function under search sees it."""

    study: str
    number: int
    place: int  # how many trials before it count: its draw depends on the study's seed and this
    overrides: Sequence[str]  # the command line that composes its config
    settings: Mapping[str, Any]  # what its parameters set, by the keys of the config
    output_dir: Path
    folder: Path  # of the study: what its trials share
    is_kept: Callable[[Sequence[float]], bool]  # whether scores are among the best so far
    report: "Reporter"  # takes scores on the way and says whether to continue
    note: Callable[[str, Any], None]  # keeps something with the trial in the study, at once
    before: "Outcome | None"  # what it gave when it was paused
    reported: str | None = None  # the metric to report, if not the first objective
    repeat: int | None = None  # which of the point's seeds this is, from 0; None where it has one
    earlier: Sequence["Outcome"] = ()  # what the seeds before this one gave
    stage: int = 0  # which of the study's stages it is of, from 1; 0: it has none
    source: str = ""  # where its point comes from, if from no sampler and no grid
    # Tries of the same point before that were killed or failed, the latest first.
    tries: Sequence["FrozenTrial"] = ()


@dataclass(frozen=True)
class Outcome:
    """What a trial gave."""

    values: Sequence[float]  # one per objective
    state: State = "complete"
    constraints: Mapping[str, float] = field(default_factory=dict)  # name -> by how much broken
    costs: Mapping[str, float] = field(default_factory=dict)  # name -> what the run took
    kept: Any = None  # what a paused trial resumes from; stays in the worker's memory


@dataclass(frozen=True)
class PriorTrial:
    """A complete trial of an earlier search."""

    settings: Mapping[str, Any]  # what its parameters set, by the keys of the config
    fixed: Mapping[str, Any]  # further values of its config, by the keys of the config
    values: Sequence[float]  # one per objective
    constraints: Mapping[str, float] = field(default_factory=dict)  # as an `Outcome` has them


@dataclass(frozen=True)
class PriorTrials:
    """What an earlier search can teach a new one."""

    trials: Sequence[PriorTrial]
    count: int  # of all that were looked at, those left out included


@dataclass(frozen=True)
class FormerStudy:
    """What an earlier search found in a space, by parameters of this one's space."""

    name: str
    # Each trial's parameters and loss; less is better, infinite where it ended without a score.
    points: Sequence[tuple[Mapping[str, Any], float]]


class Searchable:
    """A Hydra task function with all a search asks of it; a plain function gets these defaults.

    Made once by the controller; workers get a pickled copy after `begin`.
    """

    unit = 1  # steps in one unit of what trials report
    can_pause = False  # whether a paused trial can resume later
    is_dry = False  # whether its search is only a rehearsal; the search says so
    keep = 1  # of how many of the best trials what they made stays

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, config: "DictConfig") -> Any:
        """Run outside any search."""
        return self._function(config)

    def check(self, config: "DictConfig") -> None:
        """Refuse a composed config that cannot run."""

    def prepare(self, configs: Sequence["DictConfig"]) -> Mapping[str, str]:
        """Refuse what only data and models can show, before anything of the study is written.

        There is a config for each value in the space that must work; the first is the base.

        Returns:
            What identifies a study besides its config, such as digests of data, by name.
        """
        return {}

    def migrated(self, settings: Mapping[str, Any], keys: Collection[str] = ()) -> dict[str, Any]:
        """Return values that a study of any age recorded as it would record them today.

        ``keys`` of today's config may be added, with what they meant before there were any.
        """
        return dict(settings)

    def decided(self, config: "DictConfig", key: str) -> Any:
        """Return the value that a run of this config gives a key which the config leaves open.

        A key is left open where numbers are searched and the config has a text, such as ``auto``.
        None where that is not known before a run.
        """
        return None

    def footprint(self) -> int:
        """Return the bytes that a worker needs at most for what was prepared; 0: not known."""
        return 0

    def charges(self, config: "DictConfig", keys: Collection[str]) -> bool:
        """Whether trials that differ in these keys may cost more than their machines' time."""
        return False

    def costs(self, configs: Sequence["DictConfig"], plan: "WorkerPlan") -> Sequence["RunCost"]:
        """Forecast what each of these configs costs in such a plan; none where not known."""
        return []

    def costs_by_trial(
        self, configs: Sequence["DictConfig"]
    ) -> "Callable[[Any], Sequence[RunCost]] | None":
        """Return what makes the costs of what any trial notes as its ``TIMING``.

        None where one trial cannot tell of all: they are timed before the first.
        """
        return None

    def connect(self, config: "DictConfig") -> None:
        """Refuse a store that is out of reach, before anything of the study is written."""

    def directions(self, config: "DictConfig") -> tuple["Direction", ...]:
        """Return the directions that hold where the sweeper's config names none."""
        return ("minimize",)

    def reported(self, config: "DictConfig", metric: str) -> "Direction":
        """Return the direction of a metric that trials are to report instead of the score.

        Raises:
            ConfigError: where trials have no such metric.
        """
        raise ConfigError(
            f"hydra.sweeper.pruner.metric={metric}: a plain task function reports one score."
        )

    def prior_trials(self, config: "DictConfig", source: str, space: "Space") -> PriorTrials:
        """Return what the record of an earlier search tells a new one to learn from.

        ``source`` is the study's name, how it begins, or ``*`` for every run.

        Raises:
            ConfigError: where there is no such record.
        """
        raise ConfigError(
            f"hydra.sweeper.warm_start=mlflow:{source}: a plain task function has no MLflow "
            "record; expected the name of a study kept next to this one, or storage#name."
        )

    def former_studies(self, config: "DictConfig", spec: "StudySpec") -> Sequence[FormerStudy]:
        """Return the studies on record that can recommend points to a new one.

        Raises:
            ConfigError: where there is no such record.
        """
        raise ConfigError(
            "hydra.sweeper.first=history: a plain task function has no MLflow record; expected a "
            "list of points, key: value."
        )

    def opened(self, study: "Study", spec: "StudySpec", /) -> list[str]:
        """Prepare the study; all that could refuse this search has been asked.

        Returns:
            What to say of the plan.
        """
        return []

    def begin(self, config: "DictConfig", spec: "StudySpec", spending: "Spending") -> None:
        """Prepare before the first trial, if there is one; `end` follows, whatever happens."""

    def describe_data(self, config: "DictConfig") -> list[str]:
        """Return what is odd about what the trials have in common, to be told before the first."""
        return []

    def disk(self, study: "Study") -> int:
        """Return the bytes that the study's trials have written."""
        return 0

    def run(self, config: "DictConfig", job: TrialJob) -> Outcome:
        """Run one trial.

        Raises:
            BadReturnValueError: where the function gives neither a number nor a list of numbers.
        """
        try:
            returned = self._function(config)
        except (TrialPruned, TrialStoppedError):
            return Outcome([], state="pruned")
        except BaseException:
            log.exception("the trial failed")  # to the job's log
            raise
        scores = returned if isinstance(returned, list | tuple) else [returned]
        try:
            return Outcome([float(score) for score in scores])
        except (TypeError, ValueError) as error:
            raise BadReturnValueError(
                f"the task function returned {returned!r}; expected a number or a list of numbers."
            ) from error

    def free_memory(self) -> None:
        """Give back memory after a trial, however it ended."""
        gc.collect()

    def dropped(
        self, outcome: Outcome, state: Literal["pruned", "killed"] = "pruned", why: str = ""
    ) -> None:
        """Hear in the worker of a paused trial that will not be resumed: what it is now, and why.

        It may be called while another trial runs.
        """

    def progressed(self, study: "Study", news: Sequence["FrozenTrial"]) -> None:
        """Hear in the controller, now and then, of trials that are over since the last time."""

    def end(
        self,
        study: "Study",
        spec: "StudySpec",
        spending: "Spending",
        expected: "Spent | None",
    ) -> None:
        """Hear of the search's end, of what the study cost, and of what it was expected to cost.

        The search ends where the spending's total is first asked for.
        """

    def hints(self, study: "Study", spending: "Spending", *, confirms: bool) -> list[str]:
        """Return what to tell the user at the end; a winner may be about to be confirmed."""
        return []


class BadReturnValueError(TunewrightError):
    """A task function returned something that is no score."""
