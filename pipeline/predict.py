"""Predictions for a file of any size: read, answered and written in parts."""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pipeline.data.readers import Record, read_records
from pipeline.errors import ConfigError, DataError

BATCHES_A_PART = 16  # that are sorted by length together, and all that is in memory

_SUFFIXES = (".jsonl", ".csv")

Write = Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True)
class Predicted:
    """What was written."""

    rows: int
    seconds: float  # without the time to load the model


def predict(
    model: AbstractContextManager[Path],
    path: Path,
    out: Path,
    *,
    batch_size: int = 64,
    encoding: str = "utf-8",
    force: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> Predicted:
    """Write a prediction for each record of a file; the new file is there whole or not at all.

    Args:
        model: gives its folder, once the files are known to be good.
        path: a file of any format that `pipeline.data.readers` knows.
        out: a jsonl or csv file: ``id`` and what the task predicts.
        batch_size: examples at once.
        encoding: of the file that is read.
        force: replace a file that is there.
        advance: is told of rows that are done.

    Raises:
        ConfigError: for an encoding, size or suffix that cannot be.
        DataError: naming file and line of the first record that cannot be read, or the file.
        ModelError: for a folder that holds no model of ours.
    """
    _check(path, out, batch_size, encoding, force=force)
    parts = _parts(read_records(path, encoding), BATCHES_A_PART * batch_size)
    first = next(parts, None)
    if first is None:
        raise DataError(f"{path}: no rows; expected at least one.")
    with model as folder:
        from pipeline.serving.predictor import Predictor

        predictor = Predictor.load(folder)
        started, rows = time.perf_counter(), 0
        with _replaced(out) as stream:
            write: Write | None = None
            part: Sequence[Record] | None = first
            while part is not None:
                places = [f"{path}:{number}" for number, _ in part]
                found = predictor.predict([values for _, values in part], places, batch_size)
                for (number, _), prediction in zip(part, found, strict=True):
                    line = {"id": f"{path.name}:{number}", **prediction}
                    write = write or _writer(out, stream, line)
                    write(line)
                rows += len(part)
                advance(len(part))
                part = next(parts, None)
        return Predicted(rows, time.perf_counter() - started)


def _check(path: Path, out: Path, batch_size: int, encoding: str, *, force: bool) -> None:
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: expected a whole number of 1 or more.")
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ConfigError(
            f"--encoding {encoding}: no such encoding. For example utf-8, latin-1, gb18030."
        ) from error
    if out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"{out}: the suffix is {out.suffix!r}; expected {' or '.join(_SUFFIXES)}."
        )
    if not out.parent.is_dir():
        raise DataError(f"{out}: there is no folder {out.parent}.")
    if out.is_dir():
        raise DataError(f"{out}: is a folder; expected a file.")
    if not out.exists():
        return
    if path.exists() and out.samefile(path):
        raise DataError(f"{out}: is the file to be read; expected another name.")
    if not force:
        raise DataError(f"{out}: is there already; give another name, or --force to replace it.")


def _parts(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while part := list(islice(records, size)):
        yield part


@contextmanager
def _replaced(out: Path) -> Iterator[TextIO]:
    """Open a file beside another, whose place it takes at the end, or nothing stays of it."""
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".predict-") as folder:
            made = Path(folder, out.name)
            with made.open("w", encoding="utf-8", newline="") as stream:
                yield stream
            made.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}.") from error


def _writer(out: Path, stream: TextIO, first: Mapping[str, Any]) -> Write:
    """Return what writes one line; the first one names a csv file's columns."""
    if out.suffix.lower() == ".csv":
        writer = csv.DictWriter(stream, list(first))
        writer.writeheader()
        return lambda line: writer.writerow({name: _cell(value) for name, value in line.items()})
    return lambda line: stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _cell(value: Any) -> Any:
    is_plain = not isinstance(value, list | dict)
    return value if is_plain else json.dumps(value, ensure_ascii=False)
