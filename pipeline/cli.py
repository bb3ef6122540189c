"""The command line: its verbs, and how errors and exit codes look. Imports nothing heavy."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.errors import ConfigError, TrackingError, TunewrightError
from pipeline.masking import masked_message
from pipeline.untrusted import plain

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.config import TrackingConfig
    from pipeline.search.experiment import ExperimentTask
    from pipeline.tracking.tables import Table

DESCRIPTION = """\
Fine-tune language models and search their hyperparameters.

Overrides are Hydra's: key=value, group=option. With -m, or in a sweep, a key may take several
values: a,b,c · choice(a,b) · range(1,4) · interval(0,1) · tag(log,interval(1e-5,1e-3)).
"""

FORMATS = ("table", "csv", "json", "md")
STORE = "tracking.dir=… or tracking.uri=…"
DRY_RUN = "say and check what would be run, and run and write nothing"


def entry_point() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: the arguments, without the program's name.

    Returns:
        0 for success, 1 where too many trials of a sweep failed, 2 for what the user can mend.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.overrides += rest  # argparse stops at the first option: a=1 -m b=2
    quiet_libraries()
    try:
        with _terminated_as_interrupted():
            return int(options.run(options))
    except TunewrightError as error:
        said = map(plain, masked_message(str(error)).splitlines())  # it may quote a record
        print("tunewright:", "\n".join(said), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        goes_on = "A sweep goes on with the same command, a run with --resume."
        print(f"tunewright: stopped. {goes_on}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunewright",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tunewright {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    train = verbs.add_parser("train", help="fine-tune once, or with -m every combination of values")
    train.add_argument("overrides", nargs="*", help="key=value, group=option")
    way = train.add_mutually_exclusive_group()
    way.add_argument("-m", "--multirun", action="store_true", help="search over the given values")
    way.add_argument("--cfg", action="store_true", help="print the composed config and stop")
    way.add_argument(
        "--resume",
        action="store_true",
        help="go on with this very run where it was cut off; begin where there is none such",
    )
    train.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    train.set_defaults(run=_train)

    sweep = verbs.add_parser("sweep", help="run a named search of sweeps/, or continue it")
    sweep.add_argument("name", help="a file in sweeps/, without .yaml")
    sweep.add_argument("overrides", nargs="*", help="key=value, group=option, key=values to search")
    sweep.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    sweep.set_defaults(run=_sweep)

    resume = verbs.add_parser(
        "resume", help="go on with a run that was cut off, from its last checkpoint"
    )
    resume.add_argument("run_id", metavar="RUN_ID", help="its MLflow id")
    resume.add_argument("overrides", nargs="*", help="tracking.dir=… or tracking.uri=…")
    _allow(resume)
    resume.set_defaults(run=_resume)

    rerun = verbs.add_parser(
        "rerun",
        help="run a logged run again from its record, and say whether the result is the same",
        description="List what is not as it was (drift), run again, and give the verdict: "
        "identical, equivalent within the tolerance, or different and where it parted.",
    )
    rerun.add_argument(
        "run_id", metavar="RUN_ID", help="its MLflow id, or a folder that was exported"
    )
    rerun.add_argument("overrides", nargs="*", help="tracking.uri=…; key=value to change the run")
    rerun.add_argument(
        "--verify", action="store_true", help="exit with 1 where the verdict is different"
    )
    rerun.add_argument("--strict", action="store_true", help="refuse to start on any drift")
    rerun.add_argument("--dry-run", action="store_true", help="list the drift, and run nothing")
    rerun.add_argument(
        "--tolerance", type=float, default=1e-3, help="of an equivalent metric; default 0.001"
    )
    _allow(rerun)
    rerun.set_defaults(run=_rerun)

    best = verbs.add_parser(
        "best", help="show a study's best trial, its model and its command line"
    )
    best.add_argument("study", help="a study's name, or how it begins")
    best.add_argument("overrides", nargs="*", help="tracking.dir=… or tracking.uri=…")
    best.set_defaults(run=_best)

    compare = verbs.add_parser(
        "compare",
        help="list the trials of one or several studies, the best first",
        description="List the trials of studies with the parameters that vary among them, their "
        "scores, state, seconds and run. The complete ones come first, of these the best.",
    )
    compare.add_argument(
        "overrides", nargs="+", metavar="STUDY", help=f"a study's name, or how it begins; {STORE}"
    )
    _format(compare)
    compare.set_defaults(run=_compare)

    runs = verbs.add_parser(
        "runs",
        help="list studies, trials and runs, the latest first",
        description="List the studies, trials and runs of the experiment, the latest first. "
        "Seconds are by the clock.",
    )
    runs.add_argument(
        "overrides",
        nargs="*",
        metavar="FILTER",
        help="one condition in the grammar of MLflow's search, such as \"metrics.`val/best/loss` < "
        f"0.5 and params.seed = '1'\"; {STORE}",
    )
    runs.add_argument("--limit", type=int, default=50, help="how many at most; default 50")
    _format(runs)
    runs.set_defaults(run=_runs)

    diff = verbs.add_parser(
        "diff",
        help="say what differs between two runs",
        description="Compare the config, data, model, code, packages, machine and results of two "
        "runs. Exits like diff(1): with 0 where all is the same, 1 where something differs or is "
        "not in a record, 2 for an error. Seconds (cost/…) are shown and do not count.",
    )
    for side in "ab":
        run_help = "a run's MLflow id, or a folder that was exported"
        diff.add_argument(side, metavar=f"RUN_{side.upper()}", help=run_help)
    diff.add_argument("overrides", nargs="*", help=STORE)
    _format(diff, ("table", "json"))
    diff.set_defaults(run=_diff)

    export = verbs.add_parser(
        "export",
        help="write a run's record into a folder that can be passed on and run again",
        description="Write all that it takes to run a run again, without its data and model, into "
        "a new folder: config, provenance, digests, metrics, pinned packages and a script.",
    )
    export.add_argument("run_id", metavar="RUN_ID", help="its MLflow id")
    export.add_argument("folder", metavar="DIR", type=Path, help="not there yet, or empty")
    export.add_argument("overrides", nargs="*", help=STORE)
    export.set_defaults(run=_export)

    report = verbs.add_parser("report", help="make a study's page again and store it in MLflow")
    report.add_argument("study", help="a study's name, or how it begins")
    report.add_argument("overrides", nargs="*", help="tracking.dir=…, hydra.sweeper.storage=…")
    report.set_defaults(run=_report)

    retry = verbs.add_parser("retry", help="run a study's failed trials again")
    retry.add_argument("study", help="a study's name, or how it begins")
    retry.add_argument("overrides", nargs="*", help="tracking.dir=…, hydra.sweeper.storage=…")
    retry.add_argument(
        "--all", action="store_true", help="also those out of memory, diverged or out of time"
    )
    retry.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    retry.set_defaults(run=_retry)

    doctor = verbs.add_parser("doctor", help="find, and with --fix mend, what crashes left behind")
    doctor.add_argument(
        "overrides", nargs="*", metavar="STUDY", help="one study only; tracking.dir=… and the like"
    )
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended")
    doctor.set_defaults(run=_doctor)

    ui = verbs.add_parser("ui", help="open the MLflow UI on this store")
    ui.add_argument("--port", type=int, default=5000, help="on 127.0.0.1; default 5000")
    ui.add_argument("overrides", nargs="*", help="tracking.dir=… or tracking.uri=…")
    ui.set_defaults(run=_ui)
    return parser


def _allow(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--allow",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder that the record may read files of, beside the working folder",
    )


def _format(verb: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    verb.add_argument("--format", choices=formats, default="table", help="default: table")


def _train(options: argparse.Namespace) -> int:
    if options.multirun:
        return _multirun("sweep", _as_asked(options))
    return _run_once(options)


def _sweep(options: argparse.Namespace) -> int:
    from pipeline.search.sweeps import as_overrides, load_sweep

    return _multirun(options.name, as_overrides(load_sweep(options.name), _as_asked(options)))


def _as_asked(options: argparse.Namespace) -> list[str]:
    return [*options.overrides, *(["hydra.sweeper.dry_run=true"] if options.dry_run else [])]


def _run_once(options: argparse.Namespace) -> int:
    from pipeline.compose import compose, hydra_app, run_single, without_hydra
    from pipeline.config import validate
    from pipeline.run import check, inspect
    from pipeline.tracking import open_store

    with hydra_app("train") as hydra:
        config = compose(hydra, options.overrides)
        experiment = validate(without_hydra(config))
        if options.cfg:
            from omegaconf import OmegaConf

            print(OmegaConf.to_yaml(without_hydra(config)), end="")
            return 0
        check(experiment)
        inspect(experiment)  # refuses bad data and models before anything is written
        if options.dry_run:
            print("dry run: the run is valid; nothing was run or written.")
            return 0
        store = open_store(experiment.tracking)
        store.connect()

        from pipeline.console import run_on_console
        from pipeline.job import run_alone
        from pipeline.resume import find_cut_off, resume

        found = find_cut_off(store, without_hydra(config)) if options.resume else None
        task = partial(resume, run_id=found) if found else run_alone
        with run_on_console() as say_result:
            say_result(run_single(hydra, config, task), experiment)
    return 0


def _resume(options: argparse.Namespace) -> int:
    from pipeline.compose import hydra_app, run_single
    from pipeline.console import run_on_console
    from pipeline.resume import rebuild_cut_off, resume

    with hydra_app("train") as hydra:
        rebuilt = rebuild_cut_off(hydra, options.run_id, options.overrides, options.allow)
        with run_on_console() as say_result:
            task = partial(resume, run_id=rebuilt.record.run_id)
            say_result(run_single(hydra, rebuilt.config, task), rebuilt.experiment)
    return 0


def _rerun(options: argparse.Namespace) -> int:
    from pipeline import rerun
    from pipeline.compose import hydra_app
    from pipeline.console import run_on_console

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
        with run_on_console() as say_result:
            result = rerun.run_again(hydra, rebuilt)
            say_result(result, rebuilt.experiment)
        verdict = rerun.verdict_on(rebuilt, result, drift, options.tolerance)
    print(f"verdict: {verdict}")
    return int(options.verify and verdict.kind == "different")


def _multirun(name: str, overrides: list[str], task: ExperimentTask | None = None) -> int:
    from pipeline.compose import CONFIG_NAME, compose, hydra_app

    with hydra_app(name) as hydra:
        compose(hydra, overrides, multirun=True)
        from pipeline.search.experiment import ExperimentTask

        hydra.multirun(CONFIG_NAME, task or ExperimentTask(name, overrides), overrides)
    return 0


def _best(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store
    from pipeline.tracking.best import best_lines

    for line in best_lines(open_store(_tracking(options.overrides)), options.study):
        print(line)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store, tables

    names = [word for word in options.overrides if "=" not in word]
    if not names:
        raise ConfigError("compare: expected the name of a study, or how it begins.")
    store = open_store(_tracking([word for word in options.overrides if "=" in word]))
    return _show(tables.compare(store, names), options.format)


def _runs(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store, tables

    overrides = [word for word in options.overrides if word.startswith(("tracking.", "tracking="))]
    conditions = [word for word in options.overrides if word not in overrides]
    if len(conditions) > 1:
        raise ConfigError(
            f"{' '.join(conditions)}: expected one filter, in quotes: {tables.EXAMPLE}."
        )
    store = open_store(_tracking(overrides))
    return _show(tables.runs(store, "".join(conditions), options.limit), options.format)


def _show(table: Table, style: str) -> int:
    from pipeline.tracking.tables import render

    print(render(table, style), end="")
    if table.note:
        print(f"tunewright: {table.note}", file=sys.stderr)
    return 0


def _diff(options: argparse.Namespace) -> int:
    from pipeline.tracking import logged, open_store
    from pipeline.tracking.diff import diff

    store = open_store(_tracking(options.overrides))
    found = diff(logged.read(store, options.a), logged.read(store, options.b))
    print(found.as_json() if options.format == "json" else found.as_text(), end="")
    return int(not found.is_same)


def _export(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store
    from pipeline.tracking.export import export

    store = open_store(_tracking(options.overrides))
    files = export(store, options.run_id, options.folder)
    print(f"{options.folder}: {', '.join(files)}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from pipeline.search.page import report
    from pipeline.tracking import open_store

    config = _composed(options.overrides)
    store = open_store(_tracking_of(config))
    print(report(store, options.study, config.hydra.sweeper.storage))
    return 0


def _retry(options: argparse.Namespace) -> int:
    from pipeline.search.retry import again
    from pipeline.tracking import open_store

    given = _as_asked(options)
    config = _composed(given)
    store, sweeper = open_store(_tracking_of(config)), config.hydra.sweeper
    is_dry = bool(sweeper.dry_run)
    found = again(store, options.study, sweeper.storage, given, every=options.all, dry_run=is_dry)
    _multirun(found.job, found.overrides, found.task)
    for line in found.lines if is_dry else ():
        print(line)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from pipeline.search.doctor import treat
    from pipeline.tracking import open_store

    names = [word for word in options.overrides if "=" not in word]
    if len(names) > 1:
        raise ConfigError(f"{' '.join(names)}: expected one study's name, or none for all.")
    config = _composed([word for word in options.overrides if "=" in word])
    store, storage = open_store(_tracking_of(config)), config.hydra.sweeper.storage
    return min(1, treat(store, names[0] if names else None, storage, fix=options.fix, say=print))


def _ui(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store

    store = open_store(_tracking(options.overrides))
    if not store.is_server:
        store.make_folder()
        _check_port(options.port)
        print(f"MLflow UI on http://127.0.0.1:{options.port} for {store.uri}", flush=True)
        command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri]
        os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(options.port)])
    print(f"MLflow UI on {store.uri}")  # the server is its own UI
    return 0


def _check_port(port: int) -> None:
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise TrackingError(
                f"--port {port}: cannot be used ({error}); give another."
            ) from error


def _tracking(overrides: list[str]) -> TrackingConfig:
    """Compose just to learn where the record is."""
    return _tracking_of(_composed(overrides))


def _composed(overrides: list[str]) -> DictConfig:
    from pipeline.compose import compose, hydra_app

    with hydra_app("train") as hydra:
        return compose(hydra, overrides)


def _tracking_of(config: DictConfig) -> TrackingConfig:
    from pipeline.compose import without_hydra
    from pipeline.config import validate

    return validate(without_hydra(config)).tracking


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: records are closed, nothing stays running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def quiet_libraries() -> None:
    """Set what the libraries read at import: no bars or notices of their own, no calls home."""
    for name, value in (
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),  # it would call out of the machine at each start
        ("RAY_USAGE_STATS_ENABLED", "0"),  # the same
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_LOGGING_LEVEL", "WARNING"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("TRANSFORMERS_VERBOSITY", "error"),
    ):
        os.environ.setdefault(name, value)
