"""A run as a Hydra job: its config checked, its record opened, its folder known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.compose import changing
from pipeline.config import flat, plain, validate
from pipeline.masking import masked_override, masked_value
from pipeline.process import identity
from pipeline.run import open_checkpoints, run
from pipeline.tracking import Record, Store, open_store, tags
from pipeline.tracking.provenance import code_diff, environment
from pipeline.tracking.record import CONFIG_FILE, DIFF_FILE, PROVENANCE_FILE, as_json

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

    from pipeline.trial import Result, Trial


def run_alone(
    config: DictConfig,
    run_tags: Mapping[str, str] | None = None,
    trial: Trial | None = None,
    overrides: Sequence[str] | None = None,
    choices: Mapping[str, str] | None = None,
) -> Result:
    """Run once, outside any search, under a record of its own that this process signs.

    Args:
        config: the composed config, without the ``hydra`` node.
        run_tags: what the run is, beside a run of its own.
        trial: what ends it early.
        overrides: what its config was made with; None: the job's command line.
        choices: of the config's groups; None: the job's.
    """
    from hydra.core.hydra_config import HydraConfig

    settle(config)
    experiment = validate(config)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    given = list(hydra.overrides.task) if overrides is None else overrides
    store = open_store(experiment.tracking)
    own_tags = {tags.KIND: "run", tags.PROCESS: json.dumps(identity()), **(run_tags or {})}
    record = open_record(store, config, folder.name, own_tags, given, {}, choices=choices)
    # The checkpoints are left last: they go when the record is closed.
    with open_checkpoints(experiment, record.run_id) as checkpoints, record:
        return run(experiment, record, folder, trial, checkpoints=checkpoints)


def settle(config: DictConfig) -> None:
    """Write what the machine decides into the config, so that it is logged and used again.

    Sums are made in another order by another number of threads, which may change the last bit.
    """
    import torch

    if config.training.get("threads") is None:
        with changing(config.training):
            config.training.threads = torch.get_num_threads()


def _choices(hydra: HydraConf) -> dict[str, str]:
    """Return which file of each group the config is made of, Hydra's own groups apart."""
    return {k: str(v) for k, v in hydra.runtime.choices.items() if "/" not in k}


def open_record(
    store: Store,
    config: DictConfig,
    name: str,
    run_tags: Mapping[str, str],
    overrides: Sequence[str],
    origin: Mapping[str, Any],
    parent_run_id: str | None = None,
    run_id: str | None = None,
    *,
    was_cut_off: bool = False,
    choices: Mapping[str, str] | None = None,
) -> Record:
    """Open a run's record with its parameters, config, command line and provenance.

    Args:
        store: where it is.
        config: the composed config, without the ``hydra`` node.
        name: shown in the UI.
        run_tags: what the run is.
        overrides: the command line.
        origin: what the run came from beside them: its study, trial and sampler.
        parent_run_id: of the study that it is part of.
        run_id: of a run that goes on, instead of a new one.
        was_cut_off: whether that run did not pause, but was cut off.
        choices: of the config's groups; None: the job's.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    command = [masked_override(override) for override in overrides]
    all_tags = {**run_tags, tags.OVERRIDES: json.dumps(command, ensure_ascii=False)}
    record = Record(
        store, name, flat(config), all_tags, parent_run_id, run_id, was_cut_off=was_cut_off
    )
    if run_id is None:
        provenance = {
            "choices": dict(_choices(hydra) if choices is None else choices),
            "overrides": command,
            "origin": origin,
            **environment(),
        }
        texts = {
            CONFIG_FILE: OmegaConf.to_yaml(masked_value("", plain(config))),
            "overrides.yaml": OmegaConf.to_yaml(command),
            PROVENANCE_FILE: as_json(provenance),
            DIFF_FILE: code_diff(),
        }
        record.texts({file: text for file, text in texts.items() if text})
    record.log_file(Path(hydra.runtime.output_dir, f"{hydra.job.name}.log"))
    return record
