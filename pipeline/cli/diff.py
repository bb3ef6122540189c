"""``diff``: what differs between two runs."""

from __future__ import annotations

import argparse

from pipeline.cli.common import RUN_OR_FOLDER, STORE, Verbs, add_format, add_overrides
from pipeline.jobs.place import store_at


def add(verbs: Verbs) -> None:
    """Add ``diff``."""
    verb = verbs.add_parser(
        "diff",
        help="show what differs between two runs",
        description="Compare config, data, model, code, packages, machine and metrics of two runs. "
        "Exits like diff(1): 0 same, 1 different or unknown, 2 error. Timings (cost/…) are shown "
        "but do not count.",
    )
    for side in "ab":
        verb.add_argument(side, metavar=f"RUN_{side.upper()}", help=RUN_OR_FOLDER)
    add_overrides(verb, STORE)
    add_format(verb, ("table", "json"))
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking import logged
    from pipeline.tracking.diff import diff

    store = store_at(options.overrides)
    found = diff(logged.read(store, options.a), logged.read(store, options.b))
    print(found.as_json() if options.format == "json" else found.as_text(), end="")
    return int(not found.is_same)
