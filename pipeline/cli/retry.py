"""``retry``: run a study's failed trials again."""

from __future__ import annotations

import argparse

from pipeline.cli.common import (
    DRY_RUN,
    STUDY_STORE,
    Verbs,
    add_allow,
    add_study,
    as_asked,
)
from pipeline.common.text import say
from pipeline.jobs.place import composed, store_of


def add(verbs: Verbs) -> None:
    """Add ``retry``."""
    verb = verbs.add_parser(
        "retry",
        help="run a study's failed trials again",
        description="Run failed trials again with the study's own command line. Each new trial "
        "replaces a failed one in counts and tables.",
    )
    add_study(verb, STUDY_STORE)
    add_allow(verb)
    verb.add_argument(
        "--all",
        action="store_true",
        help="include trials that ran out of memory or time, or diverged",
    )
    verb.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.jobs.retry import again

    given = as_asked(options)
    config = composed(given)
    store, sweeper = store_of(config), config.hydra.sweeper
    is_dry = bool(sweeper.dry_run)
    storage, allowed = sweeper.storage, options.allow
    found = again(store, options.study, storage, given, allowed, every=options.all)
    found.run()
    for line in found.lines if is_dry else ():
        say(line)
    return 0
