"""Failed trials run again: the same search, with a new trial in the place of each of them."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import TrialState

from pipeline.compose import literal
from pipeline.errors import ConfigError
from pipeline.search.doctor import at_work
from pipeline.search.failures import TEACHES
from pipeline.search.liveness import DEAD_SECONDS
from pipeline.search.study import find_study, mend_journal
from pipeline.search.trials import REPLACES, ended, kind_of_failure, params_of
from pipeline.tracking import Store, studies, tags


def queue_again(
    store: Store, name: str, storage: str | None, given: Sequence[str], *, every: bool
) -> tuple[str, list[str]]:
    """Queue a study's failed trials again, and say how they are run.

    Args:
        store: where the study's runs are.
        name: the study's name, or how it begins.
        storage: of the study; None: the one that its parent run names.
        given: overrides that replace those of the study's own command line.
        every: also what failed for its parameters: `failures.TEACHES`.

    Returns:
        The job's name and the overrides that continue the search.

    Raises:
        TrackingError: where there is no such study, or its storage or command is not known.
        ConfigError: where it is running now, or nothing of it failed.
    """
    run = studies.find_study(store, name)
    known = run.data.tags
    full, where = known[tags.STUDY], storage or known.get(tags.STORAGE, "")
    job, overrides = studies.command_of(run)
    mend_journal(where)
    study = find_study(full, where)
    who = at_work(run, study)
    if who:
        raise ConfigError(
            f"study {full} is running now: {who} is at it; expected one that is over. Where that "
            "machine is down, the search's own command settles its trials within "
            f"{DEAD_SECONDS:g} s."
        )
    _queue(study, every=every)
    keys = {studies.key_of(override) for override in given}
    kept = [override for override in overrides if studies.key_of(override) not in keys]
    pinned = {"hydra.sweeper.study_name": full, "hydra.sweeper.storage": where}
    return job, [*kept, *given, *(f"{key}={literal(value)}" for key, value in pinned.items())]


def _queue(study: optuna.Study, *, every: bool) -> None:
    failed = ended(study, "failed")
    chosen = [t for t in failed if every or kind_of_failure(t) not in TEACHES]
    for trial in chosen:
        study.enqueue_trial(params_of(trial), user_attrs={REPLACES: trial.number})
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if not any(REPLACES in t.user_attrs for t in waiting):  # none of a retry that was cut short
        teaching = (
            f"; {len(failed)} failed for their parameters ({', '.join(TEACHES)}), which --all "
            "runs again too"
        )
        raise ConfigError(
            f"study {study.study_name} has no failed trials to run again"
            f"{teaching if failed else ''}."
        )
