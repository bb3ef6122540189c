"""``predict``: a model's predictions for a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.cli.common import (
    STORE,
    Verbs,
    add_overrides,
    add_text_format,
    names_and_overrides,
    text_format,
)
from pipeline.common.errors import ConfigError
from pipeline.common.text import say
from pipeline.jobs.place import store_at

MODEL = "MLflow run id, registered name, models:/NAME/VERSION, or a model folder"


def add(verbs: Verbs) -> None:
    """Add ``predict``."""
    verb = verbs.add_parser(
        "predict",
        help="predict every row of a file",
        description="Read a csv, tsv, json, jsonl (.gz, .bz2, .xz, .zst too), parquet or arrow "
        "file with the model's input columns and write one prediction per row. OUT is written "
        "atomically: complete or not at all.",
    )
    verb.add_argument("model", metavar="RUN_ID_OR_MODEL", help=MODEL)
    add_overrides(verb, STORE)
    verb.add_argument("--input", required=True, type=Path, metavar="IN", help="file to read")
    verb.add_argument(
        "--output", required=True, type=Path, metavar="OUT", help=".jsonl or .csv file to write"
    )
    verb.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="rows per batch; default 64"
    )
    add_text_format(verb)
    verb.add_argument("--force", action="store_true", help="replace OUT if it exists")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.serving.predict import predict
    from pipeline.tracking.registry import model_folder

    names, overrides = names_and_overrides(options.overrides)
    if names:
        raise ConfigError(f"predict: {' '.join(names)}: expected one model, --input and --output.")
    store = store_at(overrides)
    with _progress() as advance:
        done = predict(
            model_folder(store, options.model),
            options.input,
            options.output,
            batch_size=options.batch_size,
            text_format=text_format(options),
            force=options.force,
            advance=advance,
        )
    rows = f"{done.rows:,} {'row' if done.rows == 1 else 'rows'}"
    speed = done.rows / max(done.seconds, 1e-9)
    say(f"{options.output}: {rows} in {done.seconds:.1f} s, {speed:,.0f} rows/s")
    return 0


@contextmanager
def _progress() -> Iterator[Callable[[int], object]]:
    """Show rows done and rows per second on a terminal; yield the function that counts them."""
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
