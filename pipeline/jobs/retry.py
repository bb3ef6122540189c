"""Failed trials run again: the same search, with a new trial in the place of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.common.errors import ConfigError
from pipeline.config.compose import literal
from pipeline.config.flags import reading_by
from pipeline.jobs.doctor import at_work
from pipeline.jobs.multirun import multirun
from pipeline.jobs.trial import Checked, ExperimentTask
from pipeline.search.study.failures import TEACHES
from pipeline.search.study.liveness import DEAD_SECONDS
from pipeline.search.study.queue import handed_on
from pipeline.search.study.storage import find_study
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import REPLACES, ended, kind_of_failure, params_of
from pipeline.tracking import Store, commands, studies, tags


@dataclass(frozen=True)
class Again:
    """How a search runs its failed trials again."""

    job: str  # the Hydra job's name
    overrides: list[str]
    flags: list[str]  # where its config is read
    task: ExperimentTask
    lines: list[str]  # what would be run again

    def run(self) -> None:
        """Search, with the failed trials queued."""
        with reading_by(self.flags):
            multirun(self.job, self.overrides, self.task)


class Retry(ExperimentTask):
    """A search that runs its failed trials again."""

    def __init__(
        self, name: str, overrides: Sequence[str], checked: Checked, *, every: bool
    ) -> None:
        super().__init__(name, overrides, checked)
        self._every = every

    def opened(self, study: optuna.Study, spec: StudySpec, /) -> list[str]:
        """Queue the failed trials again."""
        for trial in _chosen(study, every=self._every):
            marks = {**handed_on(trial), REPLACES: trial.number}
            study.enqueue_trial(params_of(trial), user_attrs=marks)
        return super().opened(study, spec)


def again(
    store: Store,
    name: str,
    storage: str | None,
    given: Sequence[str],
    allowed: Sequence[Path],
    *,
    every: bool,
) -> Again:
    """Say how a study's failed trials are run again; none is queued yet.

    The name may be the beginning of the study's; its storage is by default the one that its parent
    run names. What is given replaces overrides of the study's own command line; ``every`` means
    also what failed for its parameters, `failures.TEACHES`. A command line that nobody vouches for
    may name files in the ``allowed`` folders, and do nothing but choose values.

    Raises:
        TrackingError: where there is no such study, or its storage or command is not known.
        ConfigError: where it is running now, nothing of it failed, or its command is refused.
    """
    run = studies.find_study(store, name)
    known = run.data.tags
    full, where = known[tags.STUDY], commands.storage_of(store, run, storage)
    command = commands.command_of(run, (), given)
    study = find_study(full, where)
    who = at_work(run, study)
    if who:
        raise ConfigError(
            f"study {full} is running now: {who} is at it; expected one that is over. Where that "
            "machine is down, the search's own command settles its trials within "
            f"{DEAD_SECONDS:g} s."
        )
    lines = _lines(study, every=every)
    pinned = {"hydra.sweeper.study_name": full, "hydra.sweeper.storage": where}
    whole = [
        *store.instead([*command.overrides, *given]),
        *(f"{key}={literal(value)}" for key, value in pinned.items()),
    ]
    checked = Checked(command.foreign, allowed, command.place)
    task = Retry(command.job, whole, checked, every=every)
    return Again(command.job, whole, command.flags, task, lines)


def _chosen(study: optuna.Study, *, every: bool) -> list[FrozenTrial]:
    return [t for t in ended(study, "failed") if every or kind_of_failure(t) not in TEACHES]


def _lines(study: optuna.Study, *, every: bool) -> list[str]:
    """Say what would be run again: failed trials, and what a retry that was cut short queued."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    queued = [t for t in waiting if REPLACES in t.user_attrs]
    chosen = _chosen(study, every=every)
    if not (chosen or queued):
        failed = ended(study, "failed")
        teaching = (
            f"; {len(failed)} failed for their parameters ({', '.join(TEACHES)}), which --all "
            "runs again too"
        )
        raise ConfigError(
            f"study {study.study_name} has no failed trials to run again"
            f"{teaching if failed else ''}."
        )
    numbers = [(t.user_attrs[REPLACES], t) for t in queued] + [(t.number, t) for t in chosen]
    return [
        f"trial {number} would be run again: "
        f"{', '.join(f'{key}={value}' for key, value in params_of(trial).items())}"
        for number, trial in sorted(numbers, key=lambda pair: pair[0])
    ]
