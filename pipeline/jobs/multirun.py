"""A search, and what may follow it: what sweep, train -m, plan, retry and confirm share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.common.errors import RESUMES, machine_faults_named, resumable
from pipeline.common.terminal import console
from pipeline.common.text import printable_lines
from pipeline.config.compose import key_of, literal
from pipeline.config.flags import reading_by
from pipeline.jobs.place import composed, store_of

if TYPE_CHECKING:
    from pipeline.analysis.winner import WinnerReport
    from pipeline.jobs.trial import ExperimentTask

SAME_COMMAND = "Run the same command to resume."


class Searched(NamedTuple):
    """What a search is found by."""

    study: str  # its name
    place: list[str]  # overrides that lead to its record and its trials


def multirun(
    name: str, overrides: list[str], task: ExperimentTask | None = None
) -> Searched | None:
    """Run a search under a Hydra job's name, which begins the study's; a dry run makes no study.

    Where ``hydra.sweeper.confirm`` says so, confirm its winner.
    """
    from pipeline.common.process import without_gc
    from pipeline.config.compose import compose, hydra_app
    from pipeline.config.flags import config_name
    from pipeline.jobs.warm_up import warm_up
    from pipeline.search.workers.sizing import may_be_started

    if may_be_started(overrides):  # first of all: it imports beside this process
        warm_up()
    with hydra_app(name) as hydra:
        with without_gc():
            config = compose(hydra, overrides, multirun=True)
            from pipeline.jobs.trial import ExperimentTask

        task = task or ExperimentTask(name, overrides)
        is_dry = bool(config.hydra.sweeper.get("dry_run"))
        with resumable("" if is_dry else SAME_COMMAND), machine_faults_named(RESUMES):
            study = hydra.multirun(config_name(), task, overrides)
    if is_dry:
        return None
    from pipeline.search.study.steering import why_stopped

    storage = config.hydra.sweeper.storage
    given = [f"hydra.sweeper.storage={literal(storage)}"] if storage else []
    found = Searched(task.study_name, [*task.store.options, *given])
    seeds = int(config.hydra.sweeper.get("confirm") or 0)
    if seeds and not why_stopped(study):
        workers = [o for o in overrides if key_of(o) == "hydra.sweeper.n_jobs"]
        retrain(found.study, seeds, [*found.place, *workers], typed=overrides)
    return found


def retrain(
    study: str,
    seeds: int,
    given: list[str],
    allowed: Sequence[Path] = (),
    typed: Sequence[str] = (),
) -> WinnerReport:
    """Train a study's winner and the default config on fresh seeds; print and return the result."""
    from pipeline.jobs import confirm

    config = composed(given)
    store, storage = store_of(config), config.hydra.sweeper.storage
    confirmation = confirm.plan(store, study, storage, seeds, given, allowed, typed)
    alone = [o for o in confirmation.default.overrides if not o.startswith(("seed=", "hydra"))]
    with reading_by(confirmation.flags):
        for search in (confirmation.winner, confirmation.default):
            overrides = [*search.overrides, *given]
            task = confirm.Retraining(search.name, overrides, search.checked)
            multirun(search.name, overrides, task)
        report = confirm.conclude(confirmation, composed([*alone, *given]))
    for line in report.lines():
        text = printable_lines(line)
        console().print(text, highlight=False, markup=False, soft_wrap=True)
    return report
