"""``confirm``: retrain a study's winner on fresh seeds and test it."""

from __future__ import annotations

import argparse

from pipeline.cli.common import STUDY_STORE, Verbs, add_allow, add_study
from pipeline.jobs.multirun import retrain


def add(verbs: Verbs) -> None:
    """Add ``confirm``."""
    verb = verbs.add_parser(
        "confirm",
        help="check on fresh seeds whether a study's winner beats the default config",
        description="Train the best trial's config and the default config on seeds that the search "
        "did not use, and evaluate each run once on the test split. Reports mean and standard "
        "deviation, the selection gap, and significance tests (paired bootstrap, McNemar) against "
        "the default config and baselines.",
    )
    add_study(verb, STUDY_STORE)
    add_allow(verb)
    verb.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="number of fresh seeds; default 5"
    )
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    retrain(options.study, options.seeds, options.overrides, options.allow)
    return 0
