"""``compare``: the trials of studies as a table."""

from __future__ import annotations

import argparse

from pipeline.cli.common import (
    STORE,
    STUDY,
    Verbs,
    add_format,
    add_limit,
    add_overrides,
    names_and_overrides,
    show_table,
)
from pipeline.common.errors import ConfigError
from pipeline.jobs.place import store_at


def add(verbs: Verbs) -> None:
    """Add ``compare``."""
    verb = verbs.add_parser(
        "compare",
        help="list the trials of one or more studies, best first",
        description="List trials with the parameters that vary, score, state, duration and run id. "
        "Complete trials come first, best first. With hydra.sweeper.repeats each seed has a row, "
        "with the trial's mean.",
    )
    add_overrides(verb, f"{STUDY}; {STORE}", metavar="STUDY", nargs="+")
    add_limit(verb, "trials")
    add_format(verb)
    verb.set_defaults(run=_run, words="studies", several=True)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking import overview

    names, overrides = names_and_overrides(options.overrides)
    if not names:
        raise ConfigError("compare: expected the name of a study, or a prefix of it.")
    table = overview.compare(store_at(overrides), names, options.limit)
    return show_table(table, options.format)
