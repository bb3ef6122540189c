"""``plan``: forecast what a search costs."""

from __future__ import annotations

import argparse

from pipeline.cli.common import Verbs, names_and_overrides


def add(verbs: Verbs) -> None:
    """Add ``plan``."""
    verb = verbs.add_parser(
        "plan",
        help="forecast a search's time, disk, energy and cost; run no trial",
        description="Check a search as --dry-run does, time a few training steps on this machine "
        "and forecast the total. Set prices in hydra.sweeper.prices.",
    )
    verb.add_argument(
        "overrides",
        nargs="+",
        metavar="NAME",
        help="file name in sweeps/ and overrides, or key=a,b to search",
    )
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.api.studies import search

    names, given = names_and_overrides(options.overrides)
    given.append("hydra.sweeper.dry_run=plan")
    search(names[0] if names else [], given)
    return 0
