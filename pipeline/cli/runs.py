"""``runs``: the studies, trials and runs of the experiment as a table."""

from __future__ import annotations

import argparse

from pipeline.cli.common import (
    STORE,
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
    """Add ``runs``."""
    verb = verbs.add_parser(
        "runs",
        help="list or search studies, trials and runs, latest first",
        description="List the studies, trials and runs of the MLflow experiment, latest first, "
        "with their wall-clock time.",
    )
    add_overrides(
        verb,
        'an MLflow search filter in quotes, such as "metrics.`val/loss` < 0.5 and '
        f"params.seed = '1'\"; {STORE}",
        metavar="FILTER",
    )
    add_limit(verb, "runs")
    add_format(verb)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking import overview

    # A condition has a `=` as well.
    conditions, overrides = names_and_overrides(options.overrides, ("tracking.", "tracking="))
    if len(conditions) > 1:
        raise ConfigError(
            f"{' '.join(conditions)}: expected one filter, in quotes: {overview.EXAMPLE}."
        )
    store = store_at(overrides)
    return show_table(overview.runs(store, "".join(conditions), options.limit), options.format)
