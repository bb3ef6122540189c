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
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.errors import ConfigError, TrackingError, TunewrightError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.config import TrackingConfig
    from pipeline.search.experiment import ExperimentTask

DESCRIPTION = """\
Fine-tune language models and search their hyperparameters.

Overrides are Hydra's: key=value, group=option. With -m, or in a sweep, a key may take several
values: a,b,c · choice(a,b) · range(1,4) · interval(0,1) · tag(log,interval(1e-5,1e-3)).
"""

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
        print(f"tunewright: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tunewright: stopped. A sweep goes on with the same command.", file=sys.stderr)
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
    train.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    train.set_defaults(run=_train)

    sweep = verbs.add_parser("sweep", help="run a named search of sweeps/, or continue it")
    sweep.add_argument("name", help="a file in sweeps/, without .yaml")
    sweep.add_argument("overrides", nargs="*", help="key=value, group=option, key=values to search")
    sweep.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    sweep.set_defaults(run=_sweep)

    best = verbs.add_parser(
        "best", help="show a study's best trial, its model and its command line"
    )
    best.add_argument("study", help="a study's name, or how it begins")
    best.add_argument("overrides", nargs="*", help="tracking.dir=… or tracking.uri=…")
    best.set_defaults(run=_best)

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
    from pipeline.compose import changing, compose, hydra_app, run_job, without_hydra
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
        open_store(experiment.tracking).connect()

        from hydra._internal.callbacks import Callbacks
        from hydra.types import HydraContext, RunMode

        from pipeline.console import run_on_console
        from pipeline.job import run_alone

        with changing(config.hydra):
            config.hydra.mode = RunMode.RUN
        context = HydraContext(hydra.config_loader, Callbacks(config))
        with run_on_console() as say_result:
            say_result(run_job(context, config, run_alone, "hydra.run.dir"), experiment)
    return 0


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
