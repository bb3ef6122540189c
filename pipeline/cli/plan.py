"""``plan``: forecast what a search costs."""

from __future__ import annotations

import argparse

from pipeline.cli.common import Verbs, add_overrides, at_most_one, names_and_overrides


def add(verbs: Verbs) -> None:
    """Add ``plan``."""
    verb = verbs.add_parser(
        "plan",
        help="forecast a search's time, disk, energy and cost; run no trial",
        description="Check a search as --dry-run does, time a few training steps on this machine "
        "and forecast the total. Set prices in hydra.sweeper.prices.",
    )
    text = "file name in sweeps/ and overrides, or key=a,b to search"
    add_overrides(verb, text, metavar="NAME", nargs="+")
    verb.set_defaults(run=_run, words="sweeps")


def _run(options: argparse.Namespace) -> int:
    from pipeline.api.studies import search

    names, given = names_and_overrides(options.overrides)
    name = at_most_one(names, "one name of a file in sweeps/, or keys with several values")
    search(name or [], [*given, "hydra.sweeper.dry_run=plan"])
    return 0
