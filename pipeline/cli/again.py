"""The verbs of a logged run's record: rerun, diff, export."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.common import RUN_ID, STORE, add_allow, add_format, goes_on, tracking

if TYPE_CHECKING:
    from pipeline.cli.common import Verbs

RUN_OR_FOLDER = "MLflow id, or a folder that was exported"


def add_rerun(verbs: Verbs) -> None:
    """Add ``rerun``."""
    verb = verbs.add_parser(
        "rerun",
        help="run a logged run again from its record, and say whether the result is the same",
        description="List what is not as it was (drift), run again, and give the verdict: "
        "identical, equivalent within the tolerance, or different and where it parted.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=f"its {RUN_OR_FOLDER}")
    verb.add_argument("overrides", nargs="*", help="tracking.uri=…; key=value to change the run")
    verb.add_argument(
        "--verify", action="store_true", help="exit with 1 where the verdict is different"
    )
    verb.add_argument("--strict", action="store_true", help="refuse to start on any drift")
    verb.add_argument("--dry-run", action="store_true", help="list the drift, and run nothing")
    verb.add_argument("--tolerance", type=_tolerance, help="of an equivalent metric; default 0.001")
    add_allow(verb)
    verb.set_defaults(run=_rerun)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected a finite number of 0 or more, as 0.001")
    return value


def _rerun(options: argparse.Namespace) -> int:
    from pipeline.cli.console import run_on_console
    from pipeline.config.compose import hydra_app
    from pipeline.jobs import rerun
    from pipeline.tracking.verdict import TOLERANCE

    with hydra_app("rerun") as hydra:
        rebuilt = rerun.rebuild(hydra, options.run_id, options.overrides, options.allow)
        if options.verify:
            rerun.check_verifiable(rebuilt.record)
        drift = rerun.drift_of(rebuilt)
        print(f"rerun of {rebuilt.record.place}; what it was made with, and what is here:")
        for line in drift:
            print(f"  {line}")
        if options.strict:
            rerun.check_no_drift(drift)
        if options.dry_run:
            print("dry run: the record can be run here; nothing was run or written.")
            return 0
        with (
            goes_on("Give it again, or `tunewright resume` its run."),
            run_on_console() as say_result,
        ):
            result = rerun.run_again(hydra, rebuilt)
            say_result(result, rebuilt.experiment)
        if not rerun.has_result(rebuilt.record):
            print(f"no verdict: the first run is {rebuilt.record.state or 'not over'}")
            return 0
        tolerance = TOLERANCE if options.tolerance is None else options.tolerance
        verdict = rerun.verdict_on(rebuilt.record, rebuilt.store, result.run_id, tolerance)
    print(f"verdict: {verdict}")
    return int(options.verify and verdict.kind == "different")


def add_diff(verbs: Verbs) -> None:
    """Add ``diff``."""
    verb = verbs.add_parser(
        "diff",
        help="say what differs between two runs",
        description="Compare the config, data, model, code, packages, machine and results of two "
        "runs. Exits like diff(1): with 0 where all is the same, 1 where something differs or is "
        "not in a record, 2 for an error. Seconds (cost/…) are shown and do not count.",
    )
    for side in "ab":
        verb.add_argument(side, metavar=f"RUN_{side.upper()}", help=f"a run's {RUN_OR_FOLDER}")
    verb.add_argument("overrides", nargs="*", help=STORE)
    add_format(verb, ("table", "json"))
    verb.set_defaults(run=_diff)


def _diff(options: argparse.Namespace) -> int:
    from pipeline.tracking import logged, open_store
    from pipeline.tracking.diff import diff

    store = open_store(tracking(options.overrides))
    found = diff(logged.read(store, options.a), logged.read(store, options.b))
    print(found.as_json() if options.format == "json" else found.as_text(), end="")
    return int(not found.is_same)


def add_export(verbs: Verbs) -> None:
    """Add ``export``."""
    verb = verbs.add_parser(
        "export",
        help="write a run's record into a folder that can be passed on and run again",
        description="Write all that it takes to run a run again, without its data and model, into "
        "a new folder: config, provenance, digests, metrics, pinned packages and a script.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    verb.add_argument("folder", metavar="DIR", type=Path, help="not there yet, or empty")
    verb.add_argument("overrides", nargs="*", help=STORE)
    verb.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store
    from pipeline.tracking.export import export

    store = open_store(tracking(options.overrides))
    files = export(store, options.run_id, options.folder)
    print(f"{options.folder}: {', '.join(files)}")
    return 0
