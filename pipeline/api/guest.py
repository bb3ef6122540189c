"""Calls from somebody else's process: a notebook, a script, a service, another Hydra program.

The command line has its process for itself. A call in another one puts back what it changes there:
the root logger's handlers, which Hydra replaces; its global state; what the garbage collector was
told to leave alone. It forgets what it read: a file may be another one at the next call. Workers do
not run the caller's main file again (`pipeline.search.workers.child`), so that it needs no
``if __name__ == "__main__"``.

Private parts of logging that are touched here, and nowhere else:

- ``logging._handlerList``, ``logging._handlers``: configuring it closes every handler in there.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pipeline.common.errors import machine_faults_named
from pipeline.common.session import session
from pipeline.common.terminal import silent
from pipeline.common.timing import ledger

# For libraries that the caller has imported: the variables of `quiet_libraries` come too late.
_LEVELS = {"transformers": logging.ERROR, "mlflow": logging.WARNING}

_AT_HOME: ContextVar[bool] = ContextVar("at_home", default=False)


@contextmanager
def at_home() -> Iterator[None]:
    """Have the process for oneself: calls in here put nothing back."""
    token = _AT_HOME.set(True)
    try:
        yield
    finally:
        _AT_HOME.reset(token)


@contextmanager
def as_guest(*, show: bool = True) -> Iterator[None]:
    """Put back what a call changes in its process; where it is not to show anything, it is silent.

    Raises:
        TunewrightError: also for a full disk, a damaged database and no more memory.
    """
    with silent(not show):
        if _AT_HOME.get():
            yield
            return
        quiet_libraries()
        ledger().restart(time.time())
        frozen = gc.get_freeze_count()
        try:
            with at_home(), _logging_kept(), machine_faults_named("call it again"):
                yield
        finally:
            session().clear()
            if gc.get_freeze_count() > frozen:
                gc.unfreeze()


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Have logging as it was, whatever is configured in here; the caller's handlers stay open."""
    root = logging.getLogger()
    before = root.handlers[:]
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, _LEVELS))}
    known, named = logging._handlerList[:], dict(logging._handlers)  # type: ignore[attr-defined]
    logging._handlerList.clear()  # type: ignore[attr-defined]
    logging._handlers.clear()  # type: ignore[attr-defined]
    try:
        for name, level in _LEVELS.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for handler in root.handlers:
            if handler not in before:
                handler.close()
        root.handlers[:] = before
        for logger, level in levels.items():
            logger.setLevel(level)
        logging._handlerList[:0] = known  # type: ignore[attr-defined]
        logging._handlers.update(named)  # type: ignore[attr-defined]


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
