"""A dry run: what a search would run, asked for and checked, but not run."""

from collections.abc import Callable, Sequence

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from pipeline.search.space.dimension import Params
from pipeline.search.study.liveness import Heartbeat
from pipeline.search.study.queue import claim, queue_points
from pipeline.search.study.storage import open_storage, seek_study
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import counted, params_of, planned

FIRST = 5  # jobs of a sampler, which are checked: the later ones depend on scores


def open_copy(spec: StudySpec) -> optuna.Study:
    """Open a study in memory, with all that is there of it; nothing is made or written."""
    memory = InMemoryStorage()
    if seek_study(spec.name, spec.storage) is not None:
        kept = open_storage(spec.storage)
        optuna.copy_study(from_study_name=spec.name, from_storage=kept, to_storage=memory)
    return spec.open(memory)


def left_to_run(study: optuna.Study, spec: StudySpec) -> int:
    """Return how many trials may begin yet."""
    return max(planned(study, spec.budget.n_trials) - len(counted(study)), 0)


def rehearse(
    study: optuna.Study, spec: StudySpec, check: Callable[[Sequence[Params]], None]
) -> list[Params]:
    """Check every job of a grid that is to be run, or the first ones of a sampler: all at once.

    ``study`` is a copy of the search's, as `open_copy` makes it. Returns the points in the order in
    which they would be run.

    Raises:
        ConfigError: for the first point that cannot run.
    """
    left = left_to_run(study, spec)
    queue_points(study, spec)
    if spec.is_grid:
        points = to_run(study, spec)
    else:
        heartbeat = Heartbeat(study)
        asked = (claim(study, spec, heartbeat) for _ in range(min(FIRST, left)))
        points = [spec.space.own(trial.params) for trial in asked if trial is not None]
    if points:
        check(points)
    return points


def to_run(study: optuna.Study, spec: StudySpec) -> list[Params]:
    """Return the points that are queued, as many as may begin yet, in the order of the queue."""
    queued = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return [spec.space.own(params_of(trial)) for trial in queued[: left_to_run(study, spec)]]
