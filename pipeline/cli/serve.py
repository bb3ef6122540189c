"""The verbs that use a kept model: register, predict."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.common import RUN_ID, STORE, names_and_overrides, tracking
from pipeline.common.errors import ConfigError
from pipeline.common.secrets import masked, masked_override
from pipeline.common.text import printable

if TYPE_CHECKING:
    from pipeline.cli.common import Verbs

MODEL = "a run's id, a registered name, models:/NAME/VERSION, or a model's folder"


def add_register(verbs: Verbs) -> None:
    """Add ``register``."""
    verb = verbs.add_parser(
        "register",
        help="give a run's model a name in MLflow's registry, to be served",
        description="Make a run's model the next version of NAME in MLflow's registry. The run "
        "keeps its model from then on, whatever a search finds.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    verb.add_argument("name", metavar="NAME", help="of the model, without /, : or @")
    verb.add_argument("overrides", nargs="*", help=STORE)
    verb.set_defaults(run=_register)


def _register(options: argparse.Namespace) -> int:
    from pipeline.tracking import open_store
    from pipeline.tracking.registry import register

    store = open_store(tracking(options.overrides))
    made = register(store, options.run_id, options.name)
    where = shlex.quote(f"MLFLOW_TRACKING_URI={masked(store.uri)}")
    print(f"registered  {made.name}, version {made.version}")
    print(f"serve       env {where} mlflow models serve -m {shlex.quote(made.uri)} -p 5001", end="")
    print(" --env-manager local")
    here = "".join(f" {shlex.quote(masked_override(word))}" for word in options.overrides)
    print(f"predict     tunewright predict {shlex.quote(made.uri)} --input IN --output OUT{here}")
    return 0


def add_predict(verbs: Verbs) -> None:
    """Add ``predict``."""
    verb = verbs.add_parser(
        "predict",
        help="write a model's predictions for a file of any size",
        description="Read a csv, tsv, json, jsonl, parquet or arrow file with the columns that the "
        "model was trained on, targets left out, and write a prediction a row. OUT is there whole "
        "or not at all.",
    )
    verb.add_argument("model", metavar="RUN_ID_OR_MODEL", help=MODEL)
    verb.add_argument("overrides", nargs="*", help=STORE)
    verb.add_argument("--input", required=True, type=Path, metavar="IN", help="the file to read")
    verb.add_argument("--output", required=True, type=Path, metavar="OUT", help=".jsonl or .csv")
    verb.add_argument("--batch-size", type=int, default=64, metavar="N", help="default 64")
    verb.add_argument("--encoding", metavar="E", default="utf-8", help="of IN; default utf-8")
    verb.add_argument("--force", action="store_true", help="replace OUT where it is there")
    verb.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    from pipeline.serving.predict import predict
    from pipeline.tracking import open_store
    from pipeline.tracking.registry import model_folder

    names, overrides = names_and_overrides(options.overrides)
    if names:
        raise ConfigError(f"predict: {' '.join(names)}: expected one model, --input and --output.")
    store = open_store(tracking(overrides))
    with _progress() as advance:
        done = predict(
            model_folder(store, options.model),
            options.input,
            options.output,
            batch_size=options.batch_size,
            encoding=options.encoding,
            force=options.force,
            advance=advance,
        )
    rows = f"{done.rows:,} {'row' if done.rows == 1 else 'rows'}"
    speed = done.rows / max(done.seconds, 1e-9)
    print(printable(f"{options.output}: {rows} in {done.seconds:.1f} s, {speed:,.0f} rows/s"))
    return 0


@contextmanager
def _progress() -> Iterator[Callable[[int], object]]:
    """Show on a terminal how many rows are done, and how fast; yield what is told of them."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    said = TextColumn("{task.completed:,.0f} rows, {task.fields[speed]:,.0f} rows/s")
    console = Console(stderr=True)
    with Progress(SpinnerColumn(), said, TimeElapsedColumn(), console=console) as progress:
        shown = progress.add_task("", total=None, speed=0.0)

        def advance(rows: int) -> None:
            progress.update(shown, advance=rows)
            task = progress.tasks[shown]
            progress.update(shown, speed=task.completed / max(task.elapsed or 0.0, 1e-9))

        yield advance
