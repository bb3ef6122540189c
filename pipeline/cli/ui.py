"""``ui``: the MLflow UI."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from contextlib import closing

from pipeline.cli.common import STORE, Verbs, add_overrides, store_at
from pipeline.common.errors import TrackingError


def add(verbs: Verbs) -> None:
    """Add ``ui``."""
    verb = verbs.add_parser("ui", help="open the MLflow UI on this store")
    verb.add_argument(
        "--port", type=int, default=5000, metavar="PORT", help="port on 127.0.0.1; default 5000"
    )
    add_overrides(verb, STORE)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:

    store = store_at(options.overrides)
    if not store.is_server:
        from pipeline.tracking.dead_runs import connect_and_close_dead

        _check_port(options.port)
        connect_and_close_dead(store)
        print(f"MLflow UI on http://127.0.0.1:{options.port} for {store.uri}", flush=True)
        command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri]
        os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(options.port)])
    print(f"MLflow UI on {store.uri}")  # the server is its own UI
    return 0


def _check_port(port: int) -> None:
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise TrackingError(
                f"--port {port}: not available ({error}); choose another port."
            ) from error
