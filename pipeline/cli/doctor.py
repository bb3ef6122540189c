"""``doctor``: find and repair what crashes left."""

from __future__ import annotations

import argparse

from pipeline.cli.common import STUDY_STORE, Verbs, add_overrides, at_most_one, names_and_overrides
from pipeline.common.text import say
from pipeline.jobs.place import composed, store_of


def add(verbs: Verbs) -> None:
    """Add ``doctor``."""
    verb = verbs.add_parser(
        "doctor",
        help="find, and with --fix repair, what crashes left behind",
        description="Find trials, runs, models and checkpoints that crashed processes left "
        "inconsistent. Exits with 1 if something is left to repair.",
    )
    add_overrides(verb, f"check this study only; {STUDY_STORE}", metavar="STUDY")
    verb.add_argument("--fix", action="store_true", help="repair what can be repaired")
    verb.set_defaults(run=_run, words="studies")


def _run(options: argparse.Namespace) -> int:
    from pipeline.jobs.doctor import treat

    names, overrides = names_and_overrides(options.overrides)
    name = at_most_one(names, "one study's name, or none for all")
    config = composed(overrides)
    store, storage = store_of(config), config.hydra.sweeper.storage
    return min(1, treat(store, name, storage, fix=options.fix, say=say))
