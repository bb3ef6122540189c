"""Resuming an interrupted run: after a kill, a power failure or a stop."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pipeline.common.errors import ConfigError, TrackingError
from pipeline.common.process import identity, is_gone
from pipeline.config.experiment import validate
from pipeline.config.flat import OPEN, flat, read_params, settings
from pipeline.config.hydra_parts import Hydra
from pipeline.config.migrations import migrated_params
from pipeline.jobs.rerun import Rebuilt, drift_of, is_own, rebuild, trial_of
from pipeline.jobs.single import (
    Command,
    compute_as,
    fix_learning_rate,
    open_record,
    open_states,
    resumable_run,
)
from pipeline.providers.attachment import Attachment
from pipeline.run import run
from pipeline.tracking import Store, logged, open_store, tags
from pipeline.tracking.descriptions import described
from pipeline.tracking.drift import Drift, drifts
from pipeline.tracking.record import as_params
from pipeline.tracking.runs import own_runs
from pipeline.training.outcome import ALONE, Result, Trial
from pipeline.training.prepare import inputs
from pipeline.training.run_folders import folder_of, has_job, has_states, is_free

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

# How a service is waited for: no part of what a run is.
_OF_WAITING = tuple(
    f"provider.{key}"
    for key in ("outage_minutes", "poll_seconds", "request_seconds", "at_once", "max_usd")
)
_BOUND = ("data", "model")  # what may not change on the way


def find_cut_off(store: Store, config: DictConfig) -> str | None:
    """Return the id of the run to resume: the latest interrupted one of this very config.

    Where it is recorded, and what the machine decides, may differ. It may have been cut off before
    its first checkpoint.
    """
    return next(_cut_off(store, config), None)


def _cut_off(store: Store, config: DictConfig) -> Iterator[str]:
    fix_learning_rate(config)
    asked = read_params(flat(config))
    # The threads differ where another machine resumes.
    undecided = {key for key, value in OPEN.items() if key in asked and asked[key] == value}
    apart = {"training.threads", *undecided, *_OF_WAITING}
    wanted = _but(apart, as_params(asked))
    for known in own_runs(store):
        same = _but(apart, migrated_params(known.data.params)) == wanted
        if not same or tags.RERUN_OF in known.data.tags or not _was_cut_off(store, known):
            continue
        if logged.is_whole(store, known.info.run_id):
            yield str(known.info.run_id)


def check_no_job(store: Store, config: DictConfig) -> None:
    """Refuse to begin a run whose very config has a job at a service already.

    Raises:
        ConfigError: naming the run that was cut off.
    """
    for found in _cut_off(store, config):
        if has_job(folder_of(store.dir, found)):
            raise ConfigError(
                f"run {found} of this very config was cut off, and its job is paid: `tunewright "
                f"resume {found}` goes on with it. Another seed=… makes another run."
            )


def _but(apart: Collection[str], params: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings(params).items() if key not in apart}


def rebuild_cut_off(
    hydra: Hydra, run_id: str, overrides: Sequence[str], allowed: Sequence[Path]
) -> tuple[Rebuilt, list[Drift]]:
    """Make the experiment of a run that was cut off from its record, just as it was logged.

    Besides it, what is returned is what is not known to be as it was when the run began. The
    arguments are those of `rebuild`, the overrides say only where the store is.

    Raises:
        TunewrightError: for a record that `rebuild` refuses, or a run that cannot be resumed here.
    """
    for override in overrides:
        if not is_own(override):
            raise ConfigError(
                f"{override}: a run is resumed as it was logged; expected tracking.dir=… or "
                f"tracking.uri=… only. `tunewright rerun {run_id} {override}` runs it changed."
            )
    rebuilt = rebuild(hydra, run_id, overrides, allowed)
    _check(rebuilt.store, rebuilt.record.run_id)
    if not is_free(folder_of(rebuilt.store.dir, rebuilt.record.run_id)):
        raise TrackingError(f"{run_id}: the run is still running; wait for its end, or end it.")
    return rebuilt, [one for one in drift_of(rebuilt) if one.state != "same"]


def resume(config: DictConfig, run_id: str, trial: Trial | None = None) -> Result:
    """Resume a run from its latest state on disk, under its old record: a Hydra job's task.

    Where there is none yet, it begins again, under that record as well. It computes with the
    threads it began with, so that it ends as if it had never stopped. Without a trial, the pruned
    one that it may be a rerun of says where it ends.

    Raises:
        TrackingError: where there is no such run, it is still running or complete, none of its
            states can be read, or its data or model have changed.
    """
    from hydra.core.hydra_config import HydraConfig

    store = open_store(validate(config).tracking)
    record = logged.read(store, run_id)
    compute_as(store, config, run_id)
    experiment = validate(config)
    with resumable_run(experiment, run_id), open_states(experiment, run_id) as states:
        _check(store, run_id)  # again: with the lock held nobody else is at it
        _check_bound(record, inputs(experiment))
        if not isinstance(states, Attachment):
            states.latest()  # one that cannot be read is refused before the record is opened
        trial = trial or trial_of(logged.origin_of(store, run_id))
        hydra = HydraConfig.get()
        output_dir = Path(hydra.runtime.output_dir)
        opened = open_record(
            store,
            config,
            record.name,
            {tags.PROCESS: json.dumps(identity()), tags.OUTPUT: store.relative(output_dir)},
            Command.of(hydra),
            run_id=run_id,
            was_cut_off=True,
        )
        with described(store, run_id), opened:
            return run(experiment, opened, output_dir, states, trial or ALONE)


def _check(store: Store, run_id: str) -> None:
    """Refuse what cannot be resumed."""
    run = logged.find_run(store, run_id)
    known = run.data.tags
    if known[tags.KIND] == "soup":
        raise TrackingError(
            f"{run_id}: a soup, which trains nothing; `tunewright rerun {run_id}` makes it again."
        )
    if known[tags.KIND] != "run":
        raise TrackingError(
            f"{run_id}: a trial of {known.get(tags.STUDY)}, which resumes with its study: "
            "run the study's command again."
        )
    if run.info.status == "FINISHED":
        raise TrackingError(f"{run_id}: the run is complete; there is nothing to resume.")


def _check_bound(record: logged.LoggedRun, inputs: Mapping[str, object]) -> None:
    """Refuse other rows and another model: what the run learned before is of the first."""
    for drift in drifts(record.inputs, inputs):
        if drift.what in _BOUND and drift.state == "different":
            raise TrackingError(
                f"{record.run_id}: the run began with other {drift.what}: {drift.detail}. With "
                "these it is a new run."
            )


def _was_cut_off(store: Store, run: Run) -> bool:
    folder = folder_of(store.dir, run.info.run_id)
    known = run.data.tags
    if has_job(folder) or known.get(tags.REASON, "").startswith(("stopped", "killed")):
        return is_free(folder)
    # Open, also of a process that was killed as it closed it.
    gone = has_states(folder) or is_gone(json.loads(known.get(tags.PROCESS, "{}"))) is True
    return run.info.status == "RUNNING" and gone and is_free(folder)
