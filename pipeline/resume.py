"""Going on with a run that was cut off: by a kill, a power failure or a stop."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import run as runs
from pipeline.compose import changing
from pipeline.config import flat, validate
from pipeline.errors import ConfigError, TrackingError
from pipeline.job import open_record
from pipeline.process import identity
from pipeline.rerun import Rebuilt, is_own, rebuild
from pipeline.tracking import Store, logged, open_store, studies, tags
from pipeline.tracking.record import as_params

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from pipeline.trial import Result


def find_cut_off(store: Store, config: DictConfig) -> str | None:
    """Return the run to go on with: the latest of this very config that was cut off.

    Args:
        store: where the runs are.
        config: the composed config, without the ``hydra`` node. Where it is recorded, and the
            threads, which the machine decides, may differ.

    Returns:
        The run's id; None where there is none with a state on disk.
    """
    wanted = _settings(as_params(flat(config)))
    for run in studies.own_runs(store):
        if _settings(run.data.params) == wanted and _was_cut_off(store, run):
            return str(run.info.run_id)
    return None


def resume(config: DictConfig, run_id: str) -> Result:
    """Go on with a run from its latest state on disk, under its old record: a Hydra job's task.

    It computes with the threads it began with, so that it ends as if it had never stopped.

    Args:
        config: the run's own config, without the ``hydra`` node.
        run_id: the run, which is part of no study.

    Raises:
        TrackingError: where there is no such run, it is still running or complete, it has no state
            on disk, or its data have changed.
    """
    from hydra.core.hydra_config import HydraConfig

    store = open_store(validate(config).tracking)
    run = logged.find_run(store, run_id)
    compute_as(store, config, run_id)
    experiment = validate(config)
    with runs.open_checkpoints(experiment, run_id) as checkpoints:
        _check(store, run_id)  # again: with the lock held nobody else is at it
        _check_data(store, run_id, runs.inputs(experiment)["data"]["splits"])
        hydra = HydraConfig.get()
        overrides = list(hydra.overrides.task)
        name = run.info.run_name
        own_tags = {tags.PROCESS: json.dumps(identity())}
        with open_record(
            store, config, name, own_tags, overrides, {}, run_id=run_id, was_cut_off=True
        ) as record:
            output_dir = Path(hydra.runtime.output_dir)
            return runs.run(experiment, record, output_dir, checkpoints=checkpoints)


def compute_as(store: Store, config: DictConfig, run_id: str) -> None:
    """Have a run compute as it began: what the machine decided then is put into its config."""
    threads = logged.find_run(store, run_id).data.params.get("training.threads")
    if threads is not None:
        with changing(config.training):
            config.training.threads = int(threads)


def can_go_on(store: Store, run_id: str) -> bool:
    """Whether a run has a state on disk, and no living process is at it."""
    from pipeline.training.checkpoints import has_states, is_in_use

    folder = _folder(store, run_id)
    return has_states(folder) and not is_in_use(folder)


def left_states(store: Store) -> list[str]:
    """Return the runs that have a state on disk which no living process is at."""
    folders = sorted(_folder(store, "").glob("*/"))
    return [folder.name for folder in folders if can_go_on(store, folder.name)]


def drop_states(store: Store, run_ids: Collection[str]) -> None:
    """Delete the states of runs that nobody will go on with."""
    from pipeline.training.checkpoints import Checkpoints

    for run_id in run_ids:
        if can_go_on(store, run_id):
            Checkpoints(_folder(store, run_id), keep=1).discard()


def rebuild_cut_off(
    hydra: Hydra, run_id: str, overrides: Sequence[str], allowed: Sequence[Path]
) -> Rebuilt:
    """Make the experiment of a run that was cut off from its record, just as it was logged.

    Args:
        hydra: set up by `hydra_app`.
        run_id: the run, which is part of no study.
        overrides: where the store is.
        allowed: folders beside the working folder that the record may name.

    Raises:
        TunewrightError: for a record that `rebuild` refuses, or a run that cannot go on here.
    """
    for override in overrides:
        if not is_own(override):
            raise ConfigError(
                f"{override}: a run goes on as it was logged; expected tracking.dir=… or "
                f"tracking.uri=… only. `tunewright rerun {run_id} {override}` runs it changed."
            )
    rebuilt = rebuild(hydra, run_id, overrides, allowed)
    _check(rebuilt.store, rebuilt.record.run_id)
    runs.check(rebuilt.experiment)
    runs.inspect(rebuilt.experiment)
    return rebuilt


def _check(store: Store, run_id: str) -> None:
    """Refuse what cannot go on."""
    from pipeline.training.checkpoints import has_states

    run = logged.find_run(store, run_id)
    known = run.data.tags
    if known[tags.KIND] != "run":
        study = known.get(tags.STUDY)
        raise TrackingError(
            f"{run_id}: a trial of {study}, which goes on with the study: give its command again."
        )
    if run.info.status == "FINISHED":
        raise TrackingError(f"{run_id}: the run is complete; there is nothing to go on with.")
    folder = _folder(store, run_id)
    if not has_states(folder):
        raise TrackingError(
            f"{run_id}: there is no checkpoint in {folder}, so the run can only be made again. "
            "training.checkpoint_every says how often one is written."
        )


def _check_data(store: Store, run_id: str, splits: Mapping[str, object]) -> None:
    recorded = logged.read(store, run_id).inputs
    if recorded and recorded["data"]["splits"] != splits:
        raise TrackingError(
            f"{run_id}: the run began with other rows: {recorded['data']['splits']}, "
            f"found {splits}. A run on these rows is a new one."
        )


def _was_cut_off(store: Store, run: studies.Run) -> bool:
    known = run.data.tags
    is_open = run.info.status == "RUNNING"  # also of a process that was killed as it closed it
    stopped = known.get(tags.REASON, "").startswith(("stopped", "killed"))
    return (is_open or stopped) and can_go_on(store, run.info.run_id)


def _folder(store: Store, run_id: str) -> Path:
    from pipeline.training.checkpoints import FOLDER

    return store.dir / FOLDER / run_id


def _settings(params: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that make a run what it is."""
    own = {key: value for key, value in params.items() if not key.startswith("tracking.")}
    own.pop("training.threads", None)
    return own
