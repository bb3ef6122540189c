"""``export``: a run's record as a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.cli.common import RUN_ID, STORE, Verbs, add_overrides
from pipeline.common.text import say
from pipeline.jobs.place import store_at


def add(verbs: Verbs) -> None:
    """Add ``export``."""
    verb = verbs.add_parser(
        "export",
        help="write a run's record to a folder that others can rerun",
        description="Write config, provenance, digests, metrics, pinned packages and a rerun "
        "script to a new folder. Data and model files are not included.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    verb.add_argument("folder", metavar="DIR", type=Path, help="new or empty folder")
    add_overrides(verb, STORE)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking.export import export

    files = export(store_at(options.overrides), options.run_id, options.folder)
    say(f"{options.folder}: {', '.join(files)}")
    return 0
