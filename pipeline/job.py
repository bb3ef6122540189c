"""A run as a Hydra job: its config checked, its record opened, its folder known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import flat, validate
from pipeline.process import identity
from pipeline.run import run
from pipeline.tracking import Record, Store, open_store, tags

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.trial import Result


def run_alone(config: DictConfig) -> Result:
    """Run once, outside any search, under a record of its own that this process signs."""
    from hydra.core.hydra_config import HydraConfig

    experiment = validate(config)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = list(hydra.overrides.task)
    store = open_store(experiment.tracking)
    run_tags = {tags.KIND: "run", tags.PROCESS: json.dumps(identity())}
    with open_record(store, config, folder.name, run_tags, overrides) as record:
        return run(experiment, record, folder)


def open_record(
    store: Store,
    config: DictConfig,
    name: str,
    run_tags: Mapping[str, str],
    overrides: Sequence[str],
    parent_run_id: str | None = None,
    run_id: str | None = None,
) -> Record:
    """Open a run's record with its parameters, config and command line; ``run_id`` goes on."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    command = json.dumps(list(overrides), ensure_ascii=False)
    all_tags = {**run_tags, tags.OVERRIDES: command}
    record = Record(store, name, flat(config), all_tags, parent_run_id, run_id)
    if run_id is None:
        record.text(OmegaConf.to_yaml(config, resolve=True), "config.yaml")
        record.text(OmegaConf.to_yaml(list(overrides)), "overrides.yaml")
    record.log_file(Path(hydra.runtime.output_dir, f"{hydra.job.name}.log"))
    return record
