"""``runs``: the studies, trials and runs of the experiment as a table."""

from __future__ import annotations

import argparse

from pipeline.cli.common import (
    STORE,
    Verbs,
    add_format,
    add_limit,
    add_overrides,
    at_most_one,
    names_and_overrides,
    show_table,
)
from pipeline.jobs.place import store_at


def add(verbs: Verbs) -> None:
    """Add ``runs``."""
    verb = verbs.add_parser(
        "runs",
        help="list or search studies, trials and runs, latest first",
        description="List the studies, trials and runs of the MLflow experiment, latest first, "
        "with their wall-clock time.",
    )
    add_overrides(
        verb,
        "a study's name, or an MLflow search filter in quotes, such as \"metrics.`val/loss` < 0.5 "
        f"and params.seed = '1'\"; {STORE}",
        metavar="STUDY|FILTER",
    )
    add_limit(verb, "runs")
    add_format(verb)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking import overview

    # A condition has a `=` as well.
    conditions, overrides = names_and_overrides(options.overrides, ("tracking.", "tracking="))
    condition = at_most_one(conditions, f"one study or one filter, in quotes: {overview.EXAMPLE}")
    table = overview.runs(store_at(overrides), condition or "", options.limit)
    return show_table(table, options.format)
