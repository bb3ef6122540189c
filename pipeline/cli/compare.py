"""``compare``: the trials of studies as a table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.cli.common import STORE, STUDY, add_format, names_and_overrides, show_table, tracking
from pipeline.common.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.cli.common import Verbs


def add(verbs: Verbs) -> None:
    """Add ``compare``."""
    verb = verbs.add_parser(
        "compare",
        help="list the trials of one or more studies, best first",
        description="List trials with the parameters that vary, score, state, duration and run id. "
        "Complete trials come first, best first.",
    )
    verb.add_argument("overrides", nargs="+", metavar="STUDY", help=f"{STUDY}; {STORE}")
    add_format(verb)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store, overview

    names, overrides = names_and_overrides(options.overrides)
    if not names:
        raise ConfigError("compare: expected the name of a study, or a prefix of it.")
    store = open_store(tracking(overrides))
    return show_table(overview.compare(store, names), options.format)
