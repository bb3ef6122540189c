"""A run as a Hydra job: its config checked, its record opened, its folder known."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.conf import HydraConf
from omegaconf import DictConfig

from pipeline.common.errors import resumable
from pipeline.common.process import identity
from pipeline.common.secrets import masked_override, masked_value
from pipeline.config.compose import changing
from pipeline.config.experiment import Experiment, validate
from pipeline.config.flags import flags
from pipeline.config.flat import AUTO, RATE, as_tree, flat, read_params
from pipeline.run import run
from pipeline.tracking import Record, Store, open_store, tags
from pipeline.tracking.descriptions import described
from pipeline.tracking.logged import find_run
from pipeline.tracking.names import run_name
from pipeline.tracking.provenance import code_diff, environment
from pipeline.tracking.record import CONFIG_FILE, DIFF_FILE, PROVENANCE_FILE, as_json
from pipeline.tracking.signature import sign
from pipeline.training.outcome import ALONE, RUN_LOGGER, Result, Trial
from pipeline.training.probe import settled_precision, with_precision
from pipeline.training.run_folders import folder_of
from pipeline.training.starting_rate import Note, rate_notes

if TYPE_CHECKING:
    from pipeline.common.contract import Precision
    from pipeline.providers.attachment import Attachment
    from pipeline.training.checkpoints import Checkpoints

log = logging.getLogger(RUN_LOGGER)


@dataclass(frozen=True)
class Command:
    """What a config was made with."""

    overrides: Sequence[str]  # Hydra's flags for where it is read come first
    choices: Mapping[str, str]  # which file of each group

    @classmethod
    def of(cls, hydra: HydraConf) -> Command:
        """Return that of a Hydra job; Hydra's own groups are left out."""
        known = hydra.runtime.choices.items()
        chosen = {k: str(v) for k, v in known if "/" not in k and v is not None}
        return cls([*flags(), *hydra.overrides.task], chosen)


def run_alone(
    config: DictConfig,
    run_tags: Mapping[str, str] | None = None,
    trial: Trial | None = None,
    command: Command | None = None,
) -> Result:
    """Run once, outside any search, under a record of its own that this process signs.

    A trial may end it early; the command is that of the job, where none is given.
    """
    from hydra.core.hydra_config import HydraConfig

    decided = fix_open_choices(config)
    experiment = validate(config)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    store = open_store(experiment.tracking)
    command = command or Command.of(hydra)
    own_tags = {
        tags.KIND: "run",
        tags.PROCESS: json.dumps(identity()),
        tags.OUTPUT: store.relative(folder),
        **decided,
        **(run_tags or {}),
    }
    model = experiment.hosted.model if experiment.hosted else experiment.model
    name = run_name(model, experiment.data, command.choices, datetime.now())
    record = open_record(store, config, name, own_tags, command)
    # The states are left last, since they go when the record is closed; where they cannot be
    # opened it is closed as well.
    run_id = record.run_id
    with ExitStack() as last, resumable_run(experiment, run_id), described(store, run_id), record:
        states = last.enter_context(open_states(experiment, run_id))
        return run(experiment, record, folder, states, trial or ALONE)


def resumable_run(experiment: Experiment, run_id: str) -> AbstractContextManager[None]:
    """Say how to resume a run that is stopped in here; nothing where it leaves no states."""
    how = f"Run `tunewright resume {run_id}` to resume."
    if experiment.hosted:
        return resumable(f"A job that it began goes on at the service, and is paid. {how}")
    return resumable(how if experiment.training.checkpoint_every is not None else "")


def open_states(
    experiment: Experiment, run_id: str, *, of_trial: bool = False
) -> AbstractContextManager[Checkpoints | Attachment]:
    """Return a run's states on disk, as a context to be entered: they are empty for a new run.

    Of a run that a service trains they are what ties it to its job there.
    """
    folder = folder_of(Path(experiment.tracking.dir).absolute(), run_id)
    if experiment.hosted:
        from pipeline.providers.attachment import Attachment

        return Attachment(folder, of_trial=of_trial)
    from pipeline.training.checkpoints import Checkpoints

    return Checkpoints(folder, experiment.training.keep_checkpoints, of_trial=of_trial)


def fix_open_choices(config: DictConfig, precision: Precision | None = None) -> dict[str, str]:
    """Write what the machine and a rule decide into the config, to be logged and used again.

    Sums are made in another order by another number of threads, which may change the last bit.

    Args:
        config: the composed config.
        precision: that a search decided for all its trials; None: it is decided here.

    Returns:
        Tags of the run that say how a rule came to its decision; none where a service trains.
    """
    if is_hosted(config):
        return {}
    import torch

    with changing(config.training):
        if config.training.get("threads") is None:
            config.training.threads = torch.get_num_threads()
        if config.training.precision == "auto":
            experiment = validate(config)
            auto = precision or settled_precision([experiment])
            config.training.precision = with_precision(experiment, auto).training.precision
    notes = fix_learning_rate(config)
    for note in notes:
        log.info("%s", note)
    return {tags.LEARNING_RATE: "; ".join(map(str, notes))} if notes else {}


def fix_learning_rate(config: DictConfig) -> Sequence[Note]:
    """Write the number that ``optimizer.learning_rate=auto`` stands for into the config.

    Returns:
        What made it, and what the batch size makes of it; nothing for a rate that is as given.

    Raises:
        ConfigError: where the rule knows no rate.
    """
    optimizer = config.optimizer
    if is_hosted(config):
        return []
    is_as_given = optimizer.learning_rate != AUTO and optimizer.get("scale_with_batch") != "sqrt"
    # A config that is refused for other reasons gets its record first.
    notes = [] if is_as_given else rate_notes(validate(config))
    for note in notes:
        if note.setting.startswith(RATE):
            with changing(optimizer):
                optimizer.learning_rate = note.rate
    return notes


def is_hosted(config: DictConfig) -> bool:
    """Whether a provider's service trains."""
    return bool(config.provider.name != "none")


def compute_as(store: Store, config: DictConfig, run_id: str) -> None:
    """Have a resumed run compute as it began: with what the machine and a rule decided then.

    Raises:
        TrackingError: where there is no such run.
    """
    known = find_run(store, run_id).data.params
    with changing(config.training):
        if known.get("training.threads", "").isdecimal():
            config.training.threads = int(known["training.threads"])
        if config.training.precision == "auto" and "training.precision" in known:
            config.training.precision = known["training.precision"]
    if config.optimizer.learning_rate == AUTO and RATE in known:
        with changing(config.optimizer):
            config.optimizer.learning_rate = float(known[RATE])


def open_record(
    store: Store,
    config: DictConfig,
    name: str,
    run_tags: Mapping[str, str],
    command: Command,
    origin: Mapping[str, Any] | None = None,
    parent_run_id: str | None = None,
    run_id: str | None = None,
    *,
    more: Mapping[str, str] | None = None,
    apart: Collection[str] = (),
    was_cut_off: bool = False,
) -> Record:
    """Open a run's record with its parameters, config, command line and provenance.

    The origin is what the run came from: its study, trial and sampler. There are ``more``
    parameters than the config's, such as a group's choice, and those ``apart`` are left out. The
    others are as `Record` takes them.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    overrides = [masked_override(override) for override in command.overrides]
    if run_id is None:
        run_tags = {**run_tags, tags.OVERRIDES: json.dumps(overrides, ensure_ascii=False)}
    else:  # it is resumed, with the rate that it has
        run_tags = {key: text for key, text in run_tags.items() if key != tags.LEARNING_RATE}
    # All that takes time first: a run that is killed before it has its config cannot be resumed.
    made = {"choices": command.choices, "overrides": overrides, "origin": origin or {}}
    provenance, diff = as_json({**made, **environment()}), code_diff()
    text = OmegaConf.to_yaml(masked_value("", as_tree(config)))
    params = {key: v for key, v in read_params(flat(config)).items() if key not in apart}
    params |= more or {}
    record = Record(store, name, params, run_tags, parent_run_id, run_id, was_cut_off=was_cut_off)
    if run_id is None:
        record.texts(
            {
                CONFIG_FILE: text,
                **sign(record.run_id, text),
                "overrides.yaml": OmegaConf.to_yaml(overrides),
                PROVENANCE_FILE: provenance,
                **({DIFF_FILE: diff} if diff else {}),
            }
        )
    elif was_cut_off:
        record.another(provenance, PROVENANCE_FILE)
    record.log_file(Path(hydra.runtime.output_dir, f"{hydra.job.name}.log"))
    return record
