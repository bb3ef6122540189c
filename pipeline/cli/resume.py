"""``resume``: continue an interrupted run."""

from __future__ import annotations

import argparse
from functools import partial

from pipeline.cli.common import RUN_ID, STORE, Verbs, add_allow, add_overrides
from pipeline.common.text import say


def add(verbs: Verbs) -> None:
    """Add ``resume``."""
    verb = verbs.add_parser(
        "resume",
        help="resume an interrupted run from its last checkpoint",
        description="Continue an interrupted run under its own MLflow run. On a CPU with the same "
        "code, the result is bit for bit that of an uninterrupted run.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    add_overrides(verb, STORE)
    add_allow(verb)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.cli.console import run_on_console
    from pipeline.config.compose import hydra_app, run_single
    from pipeline.jobs.rerun import has_result, verdict_on
    from pipeline.jobs.resume import rebuild_cut_off, resume
    from pipeline.tracking.logged import origin_of
    from pipeline.tracking.verdict import TOLERANCE

    with hydra_app("train") as hydra:
        rebuilt, drift = rebuild_cut_off(hydra, options.run_id, options.overrides, options.allow)
        run_id, store = rebuilt.record.run_id, rebuilt.store
        origin = origin_of(store, run_id)
        for line in drift:
            say(f"changed since the run began: {line}")
        with run_on_console() as say_result:
            task = partial(resume, run_id=run_id)
            say_result(run_single(hydra, rebuilt.config, task), rebuilt.experiment)
        if origin is not None and has_result(origin):
            say(f"verdict: {verdict_on(origin, store, run_id, TOLERANCE)}")
    return 0
