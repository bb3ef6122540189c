"""``doctor``: find and repair what crashes left."""

from __future__ import annotations

import argparse

from pipeline.cli.common import STUDY_STORE, Verbs, add_overrides, at_most_one, names_and_overrides
from pipeline.common.errors import ConfigError
from pipeline.common.text import say
from pipeline.jobs.place import composed, store_of


def add(verbs: Verbs) -> None:
    """Add ``doctor``."""
    verb = verbs.add_parser(
        "doctor",
        help="find, and with --fix repair, what crashes left behind",
        description="Find trials, runs, models and checkpoints that crashed processes left "
        "inconsistent. With provider=… also list what a service keeps of our runs. Exits with 1 if "
        "something is left to repair.",
    )
    add_overrides(verb, f"check this study only; {STUDY_STORE}", metavar="STUDY")
    verb.add_argument("--fix", action="store_true", help="repair what can be repaired")
    verb.add_argument(
        "--delete",
        action="append",
        default=[],
        metavar="ID",
        help="with --fix and provider=…: also delete this file or tuned model of the service, or "
        "cancel this job; without it they are listed",
    )
    verb.set_defaults(run=_run, words="studies")


def _run(options: argparse.Namespace) -> int:
    from pipeline.config.compose import without_hydra
    from pipeline.config.experiment import validate
    from pipeline.jobs.doctor import treat
    from pipeline.jobs.hosted_leftovers import held

    names, overrides = names_and_overrides(options.overrides)
    name = at_most_one(names, "one study's name, or none for all")
    config = composed(overrides)
    store, storage = store_of(config), config.hydra.sweeper.storage
    hosted = validate(without_hydra(config)).hosted
    if options.delete and not (hosted and options.fix):
        raise ConfigError(
            f"--delete {options.delete[0]}: it is a service's; expected --fix and provider=… too."
        )
    more = list(held(hosted, store, options.delete)) if hosted else ()  # a wrong name first
    return min(1, treat(store, name, storage, fix=options.fix, say=say, more=more))
