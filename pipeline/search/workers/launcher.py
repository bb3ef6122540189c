"""Local processes: one a worker, each with its share of the cores and a GPU of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from pipeline.config.compose import changing
from pipeline.search.workers.child import Child, WorkerDiedError
from pipeline.search.workers.fork_server import fork_server
from pipeline.search.workers.sizing import THREAD_VARIABLES, cores, visible_gpus

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Launcher:
    """Runs Hydra jobs in parallel, each in a process of its own.

    A single job runs in this process, or in a child of the fork server where there is one.

    Args:
        threads: of torch and BLAS in each process; None: the cores shared out.
        workers_per_gpu: how many processes share a GPU, where there are GPUs; None or auto: as
            many as there are, dealt out one by one.
        restarts: how often a process that a signal ended is started again.
    """

    threads: int | None
    workers_per_gpu: int | str | None
    restarts: int

    def launch(
        self,
        context: HydraContext,
        function: TaskFunction,
        config: DictConfig,
        job_overrides: Sequence[Sequence[str]],
        first: int,
    ) -> list[JobReturn]:
        """Run the jobs and return what they gave, in their order.

        Raises:
            WorkerDiedError: where a process ended without a result once too often.
        """
        is_alone = len(job_overrides) == 1
        if is_alone and not fork_server().is_wanted:
            return [run_hydra_job(context, function, config, job_overrides[0], first)]
        children = [
            Child(
                run_hydra_job,
                (context, function, config, overrides, first + number),
                {} if is_alone else environment_of(number, len(job_overrides), self),
            )
            for number, overrides in enumerate(job_overrides)
        ]
        try:
            return [child.result for child in wait_for(children, self.restarts)]
        finally:
            for child in children:
                child.end()


def environment_of(number: int, workers: int, launcher: Launcher) -> dict[str, str]:
    """Return what is set for one of several workers: its threads and its GPU."""
    threads = launcher.threads or max(1, cores() // workers)
    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    gpus = visible_gpus()
    if gpus:
        per_gpu = launcher.workers_per_gpu
        slot = number // (per_gpu if isinstance(per_gpu, int) else 1) % len(gpus)
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot]
    return environment


def run_hydra_job(
    context: HydraContext,
    function: TaskFunction,
    config: DictConfig,
    overrides: Sequence[str],
    number: int,
) -> JobReturn:
    """Run one job of a sweep as every Hydra launcher does."""
    from hydra.core.utils import run_job, setup_globals

    setup_globals()
    job_config = context.config_loader.load_sweep_config(config, list(overrides))
    with changing(job_config.hydra):
        job_config.hydra.job.id = str(number)
        job_config.hydra.job.num = number
    return run_job(
        hydra_context=context,
        task_function=function,
        config=job_config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def wait_for(children: Sequence[Child], restarts: int) -> Sequence[Child]:
    """Wait for all children; one that a signal ended is started again.

    Ctrl-C and the end of the whole search reach this process as well.
    """
    working = {child.answer: child for child in children}
    while working:
        for ready in wait(list(working)):
            assert isinstance(ready, Connection)
            child = working.pop(ready)
            if child.join():
                continue
            if child.starts > restarts:
                raise WorkerDiedError(
                    f"a worker's process was started {child.starts} times. The last one "
                    f"{child.fate}."
                )
            child.start()
            working[child.answer] = child
    return children
