"""What workers need, imported once in the process that they are forked from.

Nothing else: a fork takes only the thread that forks with it. `fork_server` sets what keeps
numpy, OpenMP and Arrow from starting threads, and CUDA from being begun. A module that cannot be
imported here is left to the worker, which then says why.
"""

import ctypes
import os
import signal
import threading
from contextlib import suppress
from importlib import import_module

from pipeline.common.process import without_gc

BEFORE = frozenset(os.environ)  # variables; what modules set at their import is added
PARENT = "TUNEWRIGHT_PARENT"  # variable with the process that this one is for
IMPORTS = "TUNEWRIGHT_IMPORTS"  # variable with the modules that workers need
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the system end this process with the command that it is for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT]):  # it ended before that
        os._exit(0)


def preload() -> None:
    """Import, and refuse to be forked from where that started threads.

    Raises:
        SystemExit: where it did; workers are then started without this process.
    """
    with without_gc(freezes=True):  # a collection would copy all of it for each worker
        for name in os.environ[IMPORTS].split(","):
            with suppress(Exception):
                import_module(name)
        with suppress(ImportError):
            # Its own would be a semaphore of the system, which a worker that is stopped leaves.
            import_module("tqdm").tqdm.set_lock(threading.RLock())
        if len(os.listdir("/proc/self/task")) > 1:
            raise SystemExit(1)


if PARENT in os.environ:
    end_with_parent()
    preload()
