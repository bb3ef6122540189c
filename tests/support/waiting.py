"""Waiting for what another process does, which takes a loaded machine long."""

import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any

from tests.support.commands import Started

DEADLINE = 1800.0  # seconds: what hangs is seen, and a loaded machine waited for


def wait_until(seen: Callable[[], Any], process: Popen | Started | None = None) -> Any:
    """Return what is seen, once it is something; a process that ends before it is a failure."""
    deadline = time.monotonic() + DEADLINE
    while not (found := seen()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()}")
        assert time.monotonic() < deadline, f"not seen in {DEADLINE:g} seconds"
        time.sleep(0.02)
    return found
