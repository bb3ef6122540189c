"""``rerun``: repeat a logged run and compare it with its record."""

from __future__ import annotations

import argparse
import math

from pipeline.cli.common import RUN_OR_FOLDER, Verbs, add_allow, add_overrides
from pipeline.common.text import say


def add(verbs: Verbs) -> None:
    """Add ``rerun``."""
    verb = verbs.add_parser(
        "rerun",
        help="repeat a logged run from its MLflow record and compare the results",
        description="List what changed since the run was logged (drift), run it again, and give a "
        "verdict: identical, equivalent (within the tolerance), or different, with the first step "
        "that differs.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_OR_FOLDER)
    add_overrides(verb, "tracking.uri=…, or key=value to change the run")
    verb.add_argument(
        "--verify", action="store_true", help="exit with 1 if the verdict is different"
    )
    verb.add_argument(
        "--strict", action="store_true", help="refuse to start on any drift but your own changes"
    )
    verb.add_argument("--dry-run", action="store_true", help="list the drift and exit")
    verb.add_argument(
        "--tolerance",
        type=_tolerance,
        metavar="T",
        help="largest difference that counts as equivalent; default 0.001",
    )
    add_allow(verb)
    verb.set_defaults(run=_run)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected a finite number of 0 or more, as 0.001")
    return value


def _run(options: argparse.Namespace) -> int:
    from pipeline.cli.console import run_on_console
    from pipeline.config.compose import hydra_app
    from pipeline.jobs import rerun
    from pipeline.tracking.verdict import TOLERANCE

    with hydra_app("rerun") as hydra:
        rebuilt = rerun.rebuild(hydra, options.run_id, options.overrides, options.allow)
        if options.verify:
            rerun.check_verifiable(rebuilt.record)
        drift = rerun.drift_of(rebuilt)
        say(f"rerun of {rebuilt.record.place}; the record compared with this machine:")
        for line in drift:
            say(f"  {line}")
        if options.strict:
            rerun.check_no_drift(drift)
        if options.dry_run:
            say("dry run: the record can run here; nothing was run or written.")
            return 0
        with run_on_console() as say_result:
            result = rerun.run_again(hydra, rebuilt)
            say_result(result, rebuilt.experiment)
        if not rerun.has_result(rebuilt.record):
            say(f"no verdict: the logged run is {rebuilt.record.state or 'not finished'}")
            return 0
        tolerance = TOLERANCE if options.tolerance is None else options.tolerance
        verdict = rerun.verdict_on(rebuilt.record, rebuilt.store, result.run_id, tolerance)
    say(f"verdict: {verdict}")
    return int(options.verify and verdict.kind == "different")
