"""A search's workers, started by whichever launcher the config names."""

from __future__ import annotations

import os

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from pipeline.config.compose import changing
from pipeline.search.workers.worker import Worker


def launch(worker: Worker, count: int) -> Exception | None:
    """Launch workers and wait for them; return what one raised that is no trial's error."""
    _leave_memory_to_ray(worker.config)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=worker.context, task_function=worker, config=worker.config
    )
    jobs = [
        # A worker has no config to write down: its trials have.
        [worker.spec.naming, f"hydra.sweep.subdir=workers/{number}", "hydra.output_subdir=null"]
        for number in range(count)
    ]
    try:
        for job in launcher.launch(jobs, initial_job_idx=0):
            _ = job.return_value  # raises what a worker raised
    except Exception as error:
        return error
    return None


def _leave_memory_to_ray(config: DictConfig) -> None:
    # hydra-ray-launcher sets the memory of every Ray; a cluster that runs refuses to be told.
    init = OmegaConf.select(config, "hydra.launcher.ray.init")
    if init is not None and (init.get("address") or os.environ.get("RAY_ADDRESS")):
        with changing(init):
            init.setdefault("object_store_memory", None)
