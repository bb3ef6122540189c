"""``ui``: the MLflow UI, opened at a study."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from pipeline.cli.common import (
    STORE,
    Verbs,
    add_overrides,
    at_most_one,
    check_port,
    names_and_overrides,
)
from pipeline.common.secrets import masked
from pipeline.common.text import say
from pipeline.jobs.place import store_at

if TYPE_CHECKING:
    from pipeline.tracking import Store

_OPENER = (sys.executable, "-m", "pipeline.cli.browse")


def add(verbs: Verbs) -> None:
    """Add ``ui``."""
    verb = verbs.add_parser("ui", help="open the MLflow UI on this store, at a study")
    verb.add_argument(
        "--port", type=int, default=5000, metavar="PORT", help="port on 127.0.0.1; default 5000"
    )
    verb.add_argument("--no-browser", action="store_true", help="only print the address")
    text = f"a study, or how its name begins; default: the latest. {STORE}"
    add_overrides(verb, text, metavar="STUDY")
    verb.set_defaults(run=_run, words="studies")


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking.dead_runs import connect_and_close_dead

    names, overrides = names_and_overrides(options.overrides)
    name = at_most_one(names, "one study's name, or none for the latest")
    store = store_at(overrides)
    if store.is_server:
        store.connect()
    else:
        check_port("127.0.0.1", options.port)
        connect_and_close_dead(store)
    base = _address(store, options.port)
    page = _page(store, name, base)
    print(f"MLflow UI on {base} for {masked(store.uri)}", flush=True)
    if not options.no_browser and _has_browser():
        _open_when_up(page)
    if not store.is_server:  # else the server is its own UI
        # Six processes that evaluate GenAI applications: none is here, and each takes seconds.
        os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri]
        os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(options.port)])
    return 0


def _page(store: Store, name: str | None, base: str) -> str:
    """Return the page to open, which is said: that of the study, if there is any."""
    from pipeline.tracking.studies import all_studies, find_study
    from pipeline.tracking.tags import STUDY
    from pipeline.tracking.views import ensure_view

    studies = [find_study(store, name)] if name else all_studies(store)[:1]
    if not studies:
        return base
    page = f"{base}/{ensure_view(store, studies[0])}"
    say(f"study {studies[0].data.tags[STUDY]}: {page}")
    return page


def _address(store: Store, port: int) -> str:
    """Return the UI's address, without the user and password that the store's may have."""
    if not store.is_server:
        return f"http://127.0.0.1:{port}"
    parts = urlsplit(store.uri)
    path = parts.path.rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))


def _has_browser() -> bool:
    """Whether a window can be opened: not at the other end of an SSH connection."""
    shown = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, shown))


def _open_when_up(page: str) -> None:
    subprocess.Popen(
        [*_OPENER, page],
        stdin=subprocess.DEVNULL,  # a text browser would take the terminal
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
