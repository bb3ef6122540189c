"""Processes: which one does something, whether it is still there, and its garbage collector."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil

ABANDONED = "abandoned"  # key of a signature that its living process took back, and how


@cache
def identity() -> dict[str, Any]:
    """Return what tells this process from every other: it signs with it."""
    # The start time tells a process from a later one with the same number.
    started = _started(psutil.Process())
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def process_start() -> float:
    """Return when this process was created, as of `time.time`.

    To the clock tick: psutil's own value is up to a second too early on Linux, whose time of the
    boot comes in whole seconds.
    """
    process = psutil.Process()
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return float(process.create_time())
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - _since_boot(process)
    return time.time() - age


def is_gone(owner: Mapping[str, Any]) -> bool | None:
    """Whether the process that signed is gone; None where that cannot be seen from here.

    Its ``owner`` is its `identity`, or empty where nobody signed.
    """
    if ABANDONED in owner:
        return True
    if owner.get("host") != socket.gethostname():
        return None
    try:
        process = psutil.Process(owner["pid"])
        same = abs(_started(process) - owner["started"]) < 2.0
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def without_gc(*, freezes: bool = False) -> Iterator[None]:
    """Turn the garbage collector off while modules are imported and data read, which all stays.

    It took a quarter of the imports:
    python -c "import gc; gc.disable(); import transformers.trainer, mlflow.pyfunc"

    Args:
        freezes: hide what there is at the end from the collector, whose next turn would look
            through all of it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if freezes:
            gc.freeze()
        if was_on:
            gc.enable()


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while it is open."""
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _started(process: psutil.Process) -> float:
    """Return when a process started, in seconds since the boot: a clock may be set meanwhile."""
    return round(_since_boot(process), 1)


def _since_boot(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())
