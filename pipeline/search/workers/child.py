"""A function in a process of its own.

What a child gets and gives travels pickled by value (cloudpickle), so functions of a program's
main file work too. A child whose parent is gone ends at once: its line to it breaks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import cloudpickle

from pipeline.common.errors import AGAIN, TunewrightError, machine_faults_named
from pipeline.common.process import environment, process_start
from pipeline.common.session import Travelling, session
from pipeline.common.timing import ledger
from pipeline.search.workers.fork_server import SIGNALS, fork_server
from pipeline.search.workers.sizing import THREAD_VARIABLES, cores

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess, SpawnProcess

T = TypeVar("T")

STOPPED = 130  # exit code of a child that Ctrl-C ended
END_SECONDS = 10.0  # for a child to close its record in


class WorkerDiedError(TunewrightError):
    """A worker's process ended without a word, again and again."""

    exit_code = 1


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
        known: Travelling = []
        if fork_server().is_wanted and self._fork():
            known = session().travelling()
        else:  # given more than a pipe holds, it would be waited for until its imports are over
            self._start(get_context("spawn").Process)
        self.starts += 1
        # Not as an argument: starting would wait for ever for a process that is gone before it has
        # read more than a pipe holds. Here such a one is an error, and `join` finds it dead.
        with suppress(OSError):
            self._line.send_bytes(cloudpickle.dumps((known, self._payload)))

    def _fork(self) -> bool:
        """Start it from the server; return whether that worked."""
        try:
            fork_server().begin()
            environment = {**os.environ, **self._environment}
            self._start(get_context("forkserver").Process, _Fresh.of(environment))
        except (OSError, EOFError):  # the server is gone, or had threads
            fork_server().is_wanted = False
        return fork_server().is_wanted

    def _start(
        self, make: type[SpawnProcess | ForkServerProcess], fresh: _Fresh | None = None
    ) -> None:
        self.answer, theirs = Pipe(duplex=False)
        their_line, self._line = Pipe(duplex=False)
        try:
            with environment(self._environment), _without_main():
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

    @property
    def fate(self) -> str:
        """How the process ended, for a person who wonders why."""
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return "was killed; memory may be short (see the system's log)"
        if code is not None and code < 0:
            return f"was ended by signal {-code}"
        return f"ended with exit code {code}; what it printed says why"

    def end(self) -> None:
        """End the process if it still runs: first as Ctrl-C would, so that it closes its record."""
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(END_SECONDS)
        self._line.close()  # without its line it ends at once
        self.process.join()


def in_child(
    function: Callable[..., T], *args: object, environment: Mapping[str, str] | None = None
) -> T:
    """Call a function in a child and return what it returns.

    Raises:
        WorkerDiedError: where the child ended without a word.
        DiskError, OutOfMemoryError: where the machine had no more room.
        Exception: whatever else the function raised.
    """
    child = Child(_naming_faults, (function, *args), environment or {})
    try:
        if not child.join():
            raise WorkerDiedError(f"the process that ran {function.__name__} {child.fate}.")
    finally:
        child.end()
    result: T = child.result
    return result


def _naming_faults(function: Callable[..., T], *args: object) -> T:
    with machine_faults_named(AGAIN):  # in the child: pickling an error loses its cause
        return function(*args)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide this process's main file from the children that are started in here.

    Python would run it again in each, though they need nothing of it: a script that searches
    without asking for its name would search there, too.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


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

        fork_server().share()
        set_by_imports = {k: v for k, v in os.environ.items() if k not in BEFORE}
        os.environ.clear()
        os.environ.update({**set_by_imports, **self.environment})
        threadpool_limits(self.threads)
        torch.set_num_threads(self.threads)
        np.random.seed()
        ledger().restart(process_start())


def _child(answer: Connection, line: Connection, fresh: _Fresh | None) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if fresh is not None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            fresh.make()
        given = line.recv_bytes()
    except (EOFError, OSError, KeyboardInterrupt):
        os._exit(STOPPED)
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    try:
        from hydra.core.singleton import Singleton

        known, payload = cloudpickle.loads(given)
        session().take(known)  # first: to load the rest may ask for them
        state, function, args = cloudpickle.loads(payload)
        Singleton.set_state(state)
        found = (True, function(*args))
    except KeyboardInterrupt:
        os._exit(STOPPED)
    except BaseException as error:
        if not isinstance(error, TunewrightError):
            error.add_note(traceback.format_exc())  # pickled, it has no traceback and no cause
        found = (False, error)
    answer.send_bytes(cloudpickle.dumps(found))
    answer.close()


def _end_with_parent(line: Connection) -> None:
    try:
        line.recv_bytes()
    except (EOFError, OSError):
        os._exit(STOPPED)
