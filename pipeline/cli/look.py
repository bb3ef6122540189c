"""The verbs that look at what was recorded: best, compare, runs, report, doctor, ui."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline.cli.common import (
    STORE,
    STUDY,
    STUDY_STORE,
    add_format,
    composed,
    names_and_overrides,
    tracking,
    tracking_of,
)
from pipeline.common.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from pipeline.cli.common import Verbs
    from pipeline.tracking.tables import Table


def add_best(verbs: Verbs) -> None:
    """Add ``best``."""
    verb = verbs.add_parser(
        "best", help="show a study's best trial, its model and its command line"
    )
    verb.add_argument("study", help=STUDY)
    verb.add_argument("overrides", nargs="*", help=STORE)
    verb.set_defaults(run=_best)


def _best(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store
    from pipeline.tracking.best import best_lines

    for line in best_lines(open_store(tracking(options.overrides)), options.study):
        print(line)
    return 0


def add_compare(verbs: Verbs) -> None:
    """Add ``compare``."""
    verb = verbs.add_parser(
        "compare",
        help="list the trials of one or several studies, the best first",
        description="List the trials of studies with the parameters that vary among them, their "
        "scores, state, seconds and run. The complete ones come first, of these the best.",
    )
    verb.add_argument("overrides", nargs="+", metavar="STUDY", help=f"{STUDY}; {STORE}")
    add_format(verb)
    verb.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store, tables

    names, overrides = names_and_overrides(options.overrides)
    if not names:
        raise ConfigError("compare: expected the name of a study, or how it begins.")
    store = open_store(tracking(overrides))
    return _show(tables.compare(store, names), options.format)


def add_runs(verbs: Verbs) -> None:
    """Add ``runs``."""
    verb = verbs.add_parser(
        "runs",
        help="list studies, trials and runs, the latest first",
        description="List the studies, trials and runs of the experiment, the latest first. "
        "Seconds are by the clock.",
    )
    verb.add_argument(
        "overrides",
        nargs="*",
        metavar="FILTER",
        help="one condition in the grammar of MLflow's search, such as \"metrics.`val/best/loss` < "
        f"0.5 and params.seed = '1'\"; {STORE}",
    )
    verb.add_argument("--limit", type=int, default=50, help="how many at most; default 50")
    add_format(verb)
    verb.set_defaults(run=_runs)


def _runs(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store, tables

    # A condition has a `=` as well.
    conditions, overrides = names_and_overrides(options.overrides, ("tracking.", "tracking="))
    if len(conditions) > 1:
        raise ConfigError(
            f"{' '.join(conditions)}: expected one filter, in quotes: {tables.EXAMPLE}."
        )
    store = open_store(tracking(overrides))
    return _show(tables.runs(store, "".join(conditions), options.limit), options.format)


def _show(table: Table, style: str) -> int:
    from pipeline.tracking.tables import render

    print(render(table, style), end="")
    if table.note:
        print(f"tunewright: {table.note}", file=sys.stderr)
    return 0


def add_report(verbs: Verbs) -> None:
    """Add ``report``."""
    verb = verbs.add_parser("report", help="make a study's page again and store it in MLflow")
    verb.add_argument("study", help=STUDY)
    verb.add_argument("overrides", nargs="*", help=STUDY_STORE)
    verb.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from pipeline.analysis.report import report
    from pipeline.tracking import open_store

    config = composed(options.overrides)
    store = open_store(tracking_of(config))
    print(report(store, options.study, config.hydra.sweeper.storage))
    return 0


def add_doctor(verbs: Verbs) -> None:
    """Add ``doctor``."""
    verb = verbs.add_parser("doctor", help="find, and with --fix mend, what crashes left behind")
    verb.add_argument(
        "overrides", nargs="*", metavar="STUDY", help="one study only; tracking.dir=… and the like"
    )
    verb.add_argument("--fix", action="store_true", help="mend what can be mended")
    verb.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from pipeline.jobs.doctor import treat
    from pipeline.tracking import open_store

    names, overrides = names_and_overrides(options.overrides)
    if len(names) > 1:
        raise ConfigError(f"{' '.join(names)}: expected one study's name, or none for all.")
    config = composed(overrides)
    store, storage = open_store(tracking_of(config)), config.hydra.sweeper.storage
    return min(1, treat(store, names[0] if names else None, storage, fix=options.fix, say=print))


def add_ui(verbs: Verbs) -> None:
    """Add ``ui``."""
    verb = verbs.add_parser("ui", help="open the MLflow UI on this store")
    verb.add_argument("--port", type=int, default=5000, help="on 127.0.0.1; default 5000")
    verb.add_argument("overrides", nargs="*", help=STORE)
    verb.set_defaults(run=_ui)


def _ui(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store

    store = open_store(tracking(options.overrides))
    if not store.is_server:
        store.make_folder()
        _check_port(options.port)
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
                f"--port {port}: cannot be used ({error}); give another."
            ) from error
