"""Local processes: one a worker, each with its share of the cores and a GPU of its own.

What a child gets and gives travels pickled by value (cloudpickle), so functions of a program's
main file work too. A child whose parent is gone ends at once: its line to it breaks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import cloudpickle

from pipeline.compose import changing
from pipeline.errors import TunewrightError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STOPPED = 130  # exit code of a child that Ctrl-C ended
END_SECONDS = 10.0  # for a child to close its record in


class WorkerDiedError(TunewrightError):
    """A worker's process ended without a word, again and again."""

    exit_code = 1


@dataclass(frozen=True)
class Launcher:
    """Runs Hydra jobs beside each other, each in a process of its own.

    A single job runs in this process: there is nothing to run beside it.

    Args:
        threads: of torch and BLAS in each process; None: the cores shared out.
        workers_per_gpu: how many processes share a GPU, where there are GPUs.
        restarts: how often a process that a signal ended is started again.
    """

    threads: int | None
    workers_per_gpu: int
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
        if len(job_overrides) == 1:
            return [run_hydra_job(context, function, config, job_overrides[0], first)]
        children = [
            Child(
                run_hydra_job,
                (context, function, config, overrides, first + number),
                environment_of(number, len(job_overrides), self),
            )
            for number, overrides in enumerate(job_overrides)
        ]
        try:
            return [child.result for child in _all(children, self.restarts)]
        finally:
            for child in children:
                child.end()


def environment_of(number: int, workers: int, launcher: Launcher) -> dict[str, str]:
    """Return what is set for one of several workers: its threads and its GPU."""
    threads = launcher.threads or max(1, len(os.sched_getaffinity(0)) // workers)
    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    gpus = visible_gpus()
    if gpus:
        slot = number // launcher.workers_per_gpu % len(gpus)
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot]
    return environment


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA names them; none without a driver."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return listed.split()


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


class Child:
    """A function that runs in a fresh process, with Hydra as it is set up in this one."""

    def __init__(
        self, function: Callable[..., Any], args: Sequence[Any], environment: Mapping[str, str]
    ) -> None:
        from hydra.core.singleton import Singleton

        self._payload = cloudpickle.dumps((Singleton.get_state(), function, tuple(args)))
        self._environment = environment
        self.result: Any = None
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start the process, or start it again."""
        spawn = get_context("spawn")
        self.answer, theirs = spawn.Pipe(duplex=False)
        their_line, self._line = spawn.Pipe(duplex=False)
        with _environment(self._environment):
            self.process: SpawnProcess = spawn.Process(target=_child, args=(theirs, their_line))
            self.process.start()
        theirs.close()
        their_line.close()
        self.starts += 1
        # Not as an argument: starting would wait for ever for a process that is gone before it has
        # read more than a pipe holds. Here such a one is an error, and `join` finds it dead.
        with suppress(OSError):
            self._line.send_bytes(self._payload)

    def join(self) -> bool:
        """Wait for the end; return whether there is a result.

        Raises:
            Exception: whatever the function raised.
        """
        try:
            succeeded, self.result = cloudpickle.loads(self.answer.recv_bytes())
        except EOFError:
            self.process.join()
            return False
        self.process.join()
        if not succeeded:
            raise self.result
        return True

    def end(self) -> None:
        """End the process if it still runs: first as Ctrl-C would, so that it closes its record."""
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(END_SECONDS)
        self._line.close()  # without its line it ends at once
        self.process.join()


def _all(children: Sequence[Child], restarts: int) -> Sequence[Child]:
    """Wait for all children; one that a signal ended is started again."""
    working = {child.answer: child for child in children}
    while working:
        for ready in wait(list(working)):
            assert isinstance(ready, Connection)
            child = working.pop(ready)
            if child.join():
                continue
            code = child.process.exitcode
            if code == STOPPED:
                raise KeyboardInterrupt
            if child.starts > restarts:
                raise WorkerDiedError(
                    f"a worker's process ended with exit code {code} and was started "
                    f"{child.starts} times; memory may be short (see the system's log)."
                )
            child.start()
            working[child.answer] = child
    return children


def _child(answer: Connection, line: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        payload = line.recv_bytes()
    except (EOFError, OSError, KeyboardInterrupt):
        os._exit(STOPPED)
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    try:
        from hydra.core.singleton import Singleton

        state, function, args = cloudpickle.loads(payload)
        Singleton.set_state(state)
        given = (True, function(*args))
    except KeyboardInterrupt:
        os._exit(STOPPED)
    except BaseException as error:
        given = (False, error)
    answer.send_bytes(cloudpickle.dumps(given))
    answer.close()


def _end_with_parent(line: Connection) -> None:
    try:
        line.recv_bytes()
    except (EOFError, OSError):
        os._exit(STOPPED)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
