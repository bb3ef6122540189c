"""``report``: a study's page."""

from __future__ import annotations

import argparse

from pipeline.cli.common import STUDY_STORE, Verbs, add_study
from pipeline.common.text import say
from pipeline.jobs.place import composed, store_of


def add(verbs: Verbs) -> None:
    """Add ``report``."""
    verb = verbs.add_parser(
        "report",
        help="rebuild a study's HTML report and log it to MLflow",
        description="Rebuild report.html of a study, also while it runs, log it to the study's "
        "MLflow run, and print its path.",
    )
    add_study(verb, STUDY_STORE)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.analysis.report import report

    config = composed(options.overrides)
    say(report(store_of(config), options.study, config.hydra.sweeper.storage))
    return 0
