"""Predictions for a file of any size: read, answered and written in parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from pipeline.common.errors import ConfigError, DataError, listing
from pipeline.common.text_format import PLAIN, TextFormat
from pipeline.data.readers import read_records
from pipeline.data.writers import Write, check_files, output_file, writer

BATCHES_A_PART = 16  # that are sorted by length together, and all that is in memory


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
    text_format: TextFormat = PLAIN,
    force: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> Predicted:
    """Write a prediction for each record of a file; the new file is complete or not written at all.

    Args:
        model: gives its folder, once the files are known to be good.
        path: a file of any format that `pipeline.data.readers` knows.
        out: a jsonl or csv file: ``id`` and what the task predicts.
        batch_size: examples at once.
        text_format: of the file that is read, if it is text.
        force: replace an existing file.
        advance: called with the number of rows just done.

    Raises:
        ConfigError: for an encoding, size or suffix that cannot be.
        DataError: naming file and line of the first record that cannot be read, or the file.
        ModelError: for a folder that holds no model of ours.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: expected a whole number of 1 or more.")
    check_files(path, text_format.encoding, out, force=force)
    records, size = read_records(path, text_format), BATCHES_A_PART * batch_size
    parts = iter(lambda: list(islice(records, size)), [])
    first = next(parts, None)
    if first is None:
        raise DataError(f"{path}: no rows; expected at least one.")
    with model as folder:
        from pipeline.serving.predictor import Predictor

        predictor = Predictor.load(folder)
        started, rows = time.perf_counter(), 0
        with output_file(out) as stream:
            write: Write | None = None
            columns: list[str] = []
            for part in chain([first], parts):
                places = [f"{path}:{number}" for number, _ in part]
                found = predictor.predict([values for _, values in part], places, batch_size)
                for (number, _), prediction in zip(part, found, strict=True):
                    line = {"id": f"{path.name}:{number}", **prediction}
                    columns = columns or list(line)
                    if list(line) != columns:  # an embedding, for want of a second text
                        raise DataError(
                            f"{path}:{number}: gets {listing(line)}, unlike the rows before, which "
                            f"get {listing(columns)}; expected the same columns in all rows."
                        )
                    write = write or writer(out, stream, columns)
                    write(line)
                rows += len(part)
                advance(len(part))
        return Predicted(rows, time.perf_counter() - started)
