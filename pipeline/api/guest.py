"""Calls from somebody else's process: a notebook, a script, a service, another Hydra program.

The command line has its process for itself. A call in another one puts back what it changes there:
the levels of `_LEVELS`, and which handlers logging knows, since MLflow's import closes them. It
forgets what it read: a file may be another one at the next call. A call that trains puts back more:
the root logger's handlers, which Hydra replaces; all levels; the state of random generators, which
a run seeds; what the garbage collector was told to leave alone. Of calls in several threads the
last one to end does so. What stays are the environment variables of `quiet_libraries`, where the
process sets none itself.
Workers do not run the caller's main file again (`pipeline.search.workers.child`), so that it needs
no ``if __name__ == "__main__"``.

Private parts of logging that are touched here, and nowhere else:

- ``logging._handlerList``, ``logging._handlers``: configuring it closes every handler in there.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar

from pipeline.common.errors import machine_faults_named
from pipeline.common.session import session
from pipeline.common.terminal import silent
from pipeline.common.timing import ledger

# For libraries that the caller has imported: the variables of `quiet_libraries` come too late.
# The store and the search set those of the last three themselves, in any process.
_LEVELS = {
    "transformers": logging.ERROR,
    "mlflow": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,
    "alembic": logging.WARNING,
    "optuna": logging.WARNING,
}

_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)


@contextmanager
def own_process() -> Iterator[None]:
    """Have the process for oneself: calls in here put nothing back."""
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


@contextmanager
def as_guest(*, show: bool = True, trains: bool = False) -> Iterator[None]:
    """Put back what a call changes in its process; where it is not to show anything, it is silent.

    Raises:
        TunewrightError: also for a full disk, a damaged database and no more memory.
    """
    with silent(not show):
        if _INSIDE.get():
            yield
            return
        training = _TRAININGS.visit() if trains else nullcontext()
        with own_process(), _CALLS.visit(), training, machine_faults_named("call it again"):
            yield


class _Visits:
    """The calls that are in the process now: the first changes it, the last puts it back."""

    def __init__(self, keep: Callable[[], AbstractContextManager[None]]) -> None:
        self._keep = keep
        self._lock, self._count, self._kept = threading.Lock(), 0, ExitStack()

    @contextmanager
    def visit(self) -> Iterator[None]:
        with self._lock:
            if self._count == 0:
                self._kept.enter_context(self._keep())
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if self._count == 0:
                    self._kept.close()


@contextmanager
def _calling() -> Iterator[None]:
    """What each call changes. What the caller sets meanwhile, in another thread, stays."""
    quiet_libraries()
    ledger().restart(time.time())
    try:
        with _quiet(), _handlers_known():
            yield
    finally:
        session().clear()


@contextmanager
def _training() -> Iterator[None]:
    """What a call changes that runs a Hydra job."""
    frozen = gc.get_freeze_count()
    try:
        with _logging_kept(), _random_kept():
            yield
    finally:
        if not frozen:  # else the caller's own would go as well
            gc.unfreeze()


_CALLS, _TRAININGS = _Visits(_calling), _Visits(_training)


@contextmanager
def _random_kept() -> Iterator[None]:
    """Have the random generators that the caller may use as they were."""
    own, numpy, torch = random.getstate(), sys.modules.get("numpy"), sys.modules.get("torch")
    of_numpy = numpy.random.get_state() if numpy else None
    of_torch = torch.get_rng_state() if torch else None
    of_gpus = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(own)
        if numpy:
            numpy.random.set_state(of_numpy)
        if torch:
            torch.set_rng_state(of_torch)
        if torch and of_gpus is not None:
            torch.cuda.set_rng_state_all(of_gpus)


@contextmanager
def _quiet() -> Iterator[None]:
    """Have libraries log no more than what is wrong."""
    before = {logging.getLogger(name): logging.getLogger(name).level for name in _LEVELS}
    for logger in before:
        logger.setLevel(_LEVELS[logger.name])
    try:
        yield
    finally:
        for logger, level in before.items():
            if logger.level == _LEVELS[logger.name]:
                logger.setLevel(level)


@contextmanager
def _handlers_known() -> Iterator[None]:
    """Hide the caller's handlers from what configures logging, which would close them."""
    known, named = logging._handlerList[:], dict(logging._handlers)  # type: ignore[attr-defined]
    logging._handlerList.clear()  # type: ignore[attr-defined]
    logging._handlers.clear()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        logging._handlerList[:0] = known  # type: ignore[attr-defined]
        logging._handlers.update(named)  # type: ignore[attr-defined]


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Have the root logger's handlers and all levels as they were, whatever a job configures."""
    root = logging.getLogger()
    before = root.handlers[:]
    loggers = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    levels = {logger: logger.level for logger in [root, *loggers]}
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in before:
                handler.close()
        root.handlers[:] = before
        for logger, level in levels.items():
            logger.setLevel(level)


def quiet_libraries() -> None:
    """Set what the libraries read at import: no bars or notices of their own, no calls home."""
    for name, value in (
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),  # it would call out of the machine at each start
        ("RAY_USAGE_STATS_ENABLED", "0"),  # the same
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_LOGGING_LEVEL", "WARNING"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("TRANSFORMERS_VERBOSITY", "error"),
    ):
        os.environ.setdefault(name, value)
