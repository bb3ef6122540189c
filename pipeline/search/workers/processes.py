"""Local processes: one a worker, each with its share of the cores and a GPU of its own.

What a child gets and gives travels pickled by value (cloudpickle), so functions of a program's
main file work too. A child whose parent is gone ends at once: its line to it breaks.

A child is a fresh interpreter, which takes seconds to import torch and the like. After `warm_up`
it is forked from a process that did nothing but import them: Python's fork server.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import cloudpickle

from pipeline.common.errors import TunewrightError
from pipeline.common.timing import LEDGER
from pipeline.config.compose import changing
from pipeline.search.workers.sizing import cores, visible_gpus

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess, SpawnProcess

    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
STOPPED = 130  # exit code of a child that Ctrl-C ended
END_SECONDS = 10.0  # for a child to close its record in

_PRELOAD = "pipeline.search.workers.preload"
_SIGNALS = {signal.SIGINT, signal.SIGTERM}  # to the whole group: for the server's children alone
# Of the server that children are forked from: with threads of its own it could not be forked, nor
# once CUDA has begun, as where torch asks CUDA and not the driver's tool for the number of GPUs.
_SERVER_ENVIRONMENT = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # Of glibc: memory of a step is kept for the next, and not given back to the system each time.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "PYTHONSAFEPATH": "1",  # a file of the user's folder is no module
}


class WorkerDiedError(TunewrightError):
    """A worker's process ended without a word, again and again."""

    exit_code = 1


@dataclass(frozen=True)
class Launcher:
    """Runs Hydra jobs in parallel, each in a process of its own.

    A single job runs in this process: there is nothing to run in parallel.

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


class _Server:
    """Python's fork server, as far as children may use it."""

    is_wanted = False
    is_anothers = False  # of the process that started this one

    @classmethod
    def begin(cls) -> None:
        """Start it, where it does not run; it ends with this process, and at once."""
        from multiprocessing import forkserver, resource_tracker

        from pipeline.search.workers.preload import PARENT

        if cls.is_anothers:
            return
        resource_tracker.ensure_running()  # the server would start it, in its own environment
        forkserver.set_forkserver_preload([_PRELOAD])
        own = {PARENT: str(os.getpid()), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with _environment({**_SERVER_ENVIRONMENT, **own}):
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    @classmethod
    def share(cls) -> None:
        """Have a child use the server that it was forked from; Python would start it another."""
        from multiprocessing import forkserver

        cls.is_wanted = cls.is_anothers = True
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]


def warm_up() -> None:
    """Begin to import what workers of our own runs need while this process does other work.

    Only where a fork is safe. A program of somebody else's is not warmed up: what it imports may
    start threads, or begin CUDA.
    """
    if sys.platform == "linux":
        _Server.is_wanted = True
        with suppress(OSError):
            _Server.begin()


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
        if not (_Server.is_wanted and self._fork()):
            self._start(get_context("spawn").Process)
        self.starts += 1
        # Not as an argument: starting would wait for ever for a process that is gone before it has
        # read more than a pipe holds. Here such a one is an error, and `join` finds it dead.
        with suppress(OSError):
            self._line.send_bytes(self._payload)

    def _fork(self) -> bool:
        """Start it from the server; return whether that worked."""
        try:
            _Server.begin()
            environment = {**os.environ, **self._environment}
            self._start(get_context("forkserver").Process, _Fresh.of(environment))
        except (OSError, EOFError):  # the server is gone, or had threads
            _Server.is_wanted = False
        return _Server.is_wanted

    def _start(
        self, make: type[SpawnProcess | ForkServerProcess], fresh: _Fresh | None = None
    ) -> None:
        self.answer, theirs = Pipe(duplex=False)
        their_line, self._line = Pipe(duplex=False)
        try:
            with _environment(self._environment):
                self.process = make(target=_child, args=(theirs, their_line, fresh))
                self.process.start()
        finally:
            theirs.close()
            their_line.close()

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


@dataclass(frozen=True)
class _Fresh:
    """What makes a forked process as one that was started anew."""

    environment: Mapping[str, str]
    threads: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> _Fresh:
        """Read from its environment what the libraries would, when they are loaded."""
        given = environment.get(THREAD_VARIABLES[0], "")
        if given.isdecimal():
            return cls(environment, int(given))
        torch = sys.modules.get("torch")
        return cls(environment, torch.get_num_threads() if torch else cores())

    def make(self) -> None:
        """Set it in this process."""
        import numpy as np
        import torch
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        from pipeline.search.workers.preload import BEFORE

        _Server.share()
        set_by_imports = {k: v for k, v in os.environ.items() if k not in BEFORE}
        os.environ.clear()
        os.environ.update({**set_by_imports, **self.environment})
        threadpool_limits(self.threads)
        torch.set_num_threads(self.threads)
        np.random.seed()
        LEDGER.restart()


def _child(answer: Connection, line: Connection, fresh: _Fresh | None) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if fresh is not None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            fresh.make()
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
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
