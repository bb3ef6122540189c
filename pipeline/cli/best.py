"""``best``: a study's best trial."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.cli.common import STORE, STUDY, tracking

if TYPE_CHECKING:
    from pipeline.cli.common import Verbs


def add(verbs: Verbs) -> None:
    """Add ``best``."""
    verb = verbs.add_parser(
        "best", help="show a study's best trial: score, parameters, model folder, command"
    )
    verb.add_argument("study", help=STUDY)
    verb.add_argument("overrides", nargs="*", help=STORE)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store
    from pipeline.tracking.best import best_lines

    for line in best_lines(open_store(tracking(options.overrides)), options.study):
        print(line)
    return 0
