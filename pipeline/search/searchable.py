"""What a search needs to know of the function it searches over."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import TunewrightError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from optuna import Study
    from optuna.trial import FrozenTrial

    from pipeline.search.study import StudySpec
    from pipeline.tasks.base import Direction


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialJob:
    """One trial, as the function under search sees it."""

    study: str
    number: int
    overrides: Sequence[str]  # the command line that composes its config
    output_dir: Path
    is_best: Callable[[float], bool]  # whether a score beats every finished trial's


@dataclass(frozen=True)
class Outcome:
    """What a trial gave."""

    values: Sequence[float]  # one an objective
    notes: dict[str, Any] = field(default_factory=dict)  # kept with the trial in the study


class Searchable:
    """A Hydra task function with all a search asks of it; a plain function gets these defaults.

    Made once by the controller; workers get a pickled copy after `begin`.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, config: "DictConfig") -> Any:
        """Run outside any search."""
        return self._function(config)

    def check(self, config: "DictConfig") -> None:
        """Refuse a composed config that cannot run."""

    def prepare(self, configs: Sequence["DictConfig"]) -> None:
        """Refuse what only data and models can show, before anything of the study is written.

        Args:
            configs: one for each value in the space that must work; the first is the base.
        """

    def directions(self, config: "DictConfig") -> tuple["Direction", ...]:  # noqa: ARG002
        """Return the directions that hold where the sweeper's config names none."""
        return ("minimize",)

    def begin(self, config: "DictConfig", spec: "StudySpec", killed: Sequence[int]) -> None:
        """Prepare before the first trial; ``killed`` are the trials whose process died."""

    def run(self, config: "DictConfig", job: TrialJob) -> Outcome:  # noqa: ARG002
        """Run one trial.

        Raises:
            BadReturnValueError: where the function gives neither a number nor a list of numbers.
        """
        try:
            returned = self._function(config)
        except BaseException:
            log.exception("the trial failed")  # to the job's log
            raise
        try:
            values = [
                float(v) for v in (returned if isinstance(returned, list | tuple) else [returned])
            ]
        except (TypeError, ValueError) as error:
            raise BadReturnValueError(
                f"the task function returned {returned!r}; expected a number or a list of numbers."
            ) from error
        return Outcome(values)

    def told(self, job: TrialJob, outcome: Outcome, best: "FrozenTrial") -> None:
        """Hear of a trial that is complete and in the study, and which one is now the best."""

    def end(self, study: "Study", spec: "StudySpec") -> None:
        """Hear of the search's end."""

    def hints(self, study: "Study", began: float) -> list[str]:  # noqa: ARG002
        """Return what to tell the user at the end; ``began`` is when the process did."""
        return []


class BadReturnValueError(TunewrightError):
    """A task function returned something that is no score."""
