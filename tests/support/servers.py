"""Servers that a test starts and ends."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from tests.support.waiting import wait_until


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        urlopen(url, timeout=10).close()
    except OSError:
        return False
    return True


@contextmanager
def mlflow_server(folder: Path, store: str | None = None):
    """Run an MLflow server on this machine; yield its address.

    Args:
        folder: of its database and artifacts.
        store: the URI of another database, which is there.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    database = ["--backend-store-uri", store or f"sqlite:///{folder}/server.db"]
    artifacts = ["--artifacts-destination", str(folder / "kept")]
    process = subprocess.Popen(
        [*command, *database, *artifacts, "--host", "127.0.0.1"],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # six processes less
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(partial(answers, f"{address}/health"), process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
