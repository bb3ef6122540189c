"""``best``: a study's best trial."""

from __future__ import annotations

import argparse

from pipeline.cli.common import STORE, Verbs, add_study
from pipeline.common.text import say
from pipeline.jobs.place import store_at


def add(verbs: Verbs) -> None:
    """Add ``best``."""
    verb = verbs.add_parser(
        "best", help="show a study's best trial: score, parameters, model folder, command"
    )
    add_study(verb, STORE)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking.best import best_lines

    for line in best_lines(store_at(options.overrides), options.study):
        say(line)
    return 0
