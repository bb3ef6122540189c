"""Python's fork server: workers forked from a process that did nothing but import what they need.

A fresh interpreter takes seconds to import torch and the like; a fork takes none.

Private parts of multiprocessing that are touched here, and nowhere else:

- ``forkserver._forkserver.ensure_running``: a process that the server forked knows its address, but
  Python would start it a server of its own. See `ForkServer.share`.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from pipeline.common.process import environment
from pipeline.common.session import session
from pipeline.search.workers.sizing import THREAD_VARIABLES

_PRELOAD = "pipeline.search.workers.preload"
SIGNALS = {signal.SIGINT, signal.SIGTERM}  # to the whole group: for the server's children alone
# Of the server that children are forked from: with threads of its own it could not be forked, nor
# once CUDA has begun, as where torch asks CUDA and not the driver's tool for the number of GPUs.
SERVER_ENVIRONMENT = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # Of glibc: memory of a step is kept for the next, and not given back to the system each time.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "PYTHONSAFEPATH": "1",  # a file of the user's folder is no module
}


class ForkServer:
    """Python's fork server, as far as children may use it."""

    def __init__(self) -> None:
        self.is_wanted = False
        self.is_anothers = False  # of the process that started this one
        self.modules: Sequence[str] = ()  # what it imports

    def begin(self) -> None:
        """Start it, where it does not run; it ends with this process, and at once."""
        from multiprocessing import forkserver, resource_tracker

        from pipeline.search.workers.preload import IMPORTS, PARENT

        if self.is_anothers:
            return
        resource_tracker.ensure_running()  # the server would start it, in its own environment
        forkserver.set_forkserver_preload([_PRELOAD])
        own = {
            PARENT: str(os.getpid()),
            IMPORTS: ",".join(self.modules),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with environment({**SERVER_ENVIRONMENT, **own}):
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def share(self) -> None:
        """Have a child use the server that it was forked from; Python would start it another."""
        from multiprocessing import forkserver

        self.is_wanted = self.is_anothers = True
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]


def fork_server() -> ForkServer:
    """Return the fork server of this process."""
    return session().kept(ForkServer, ForkServer)


def warm_up(modules: Sequence[str]) -> None:
    """Begin to import what workers need while this process does other work.

    For modules that are safe to fork after: none that starts threads or begins CUDA. A program of
    somebody else's is not warmed up, since nobody knows that of it.
    """
    if sys.platform == "linux":
        server = fork_server()
        server.is_wanted, server.modules = True, modules
        with suppress(OSError):
            server.begin()
