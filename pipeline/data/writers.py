"""Files of records that a command writes: complete or not at all."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from pipeline.common.atomic import replacing
from pipeline.common.errors import ConfigError, DataError

SUFFIXES = (".jsonl", ".csv")

Write = Callable[[Mapping[str, Any]], object]  # one record


def check_files(path: Path, encoding: str, out: Path, *, force: bool) -> None:
    """Refuse an unknown encoding of the file that is read, and one that must not be written.

    Raises:
        ConfigError: for an encoding, or another suffix than `SUFFIXES`.
        DataError: for the rest.
    """
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ConfigError(
            f"--encoding {encoding}: no such encoding. For example utf-8, latin-1, gb18030."
        ) from error
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{out}: the suffix is {out.suffix!r}; expected {' or '.join(SUFFIXES)}.")
    with _refused(out):
        if not out.parent.is_dir():
            raise DataError(f"{out}: the folder {out.parent} does not exist.")
        if out.is_dir():
            raise DataError(f"{out}: is a folder; expected a file.")
        if out.exists() and path.exists() and out.samefile(path):
            raise DataError(f"{out}: is the input file; expected a different name.")
        if out.exists() and not force:
            raise DataError(f"{out}: already exists; give another name, or --force to replace it.")


@contextmanager
def output_file(out: Path) -> Iterator[TextIO]:
    """Open a new text file, which appears when it is complete; an error leaves nothing behind.

    Raises:
        DataError: if it cannot be written.
    """
    with ExitStack() as stack:
        with _refused(out):
            stream = stack.enter_context(replacing(out)).open("w", encoding="utf-8", newline="")
        try:
            yield stream
        except BaseException:
            with suppress(OSError):  # the error that stopped the writing, again
                stream.close()
            raise
        with _refused(out):
            stream.close()
            stack.close()


@contextmanager
def _refused(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}.") from error


def writer(out: Path, stream: TextIO, columns: Sequence[str]) -> Write:
    """Return what writes one record; the columns are a csv file's, whose cells may hold JSON.

    What it returns raises DataError if the file cannot be written.
    """
    rows, dumps = csv.DictWriter(stream, columns), partial(json.dumps, ensure_ascii=False)
    is_csv = out.suffix.lower() == ".csv"
    if is_csv:
        with _refused(out):
            rows.writeheader()

    def write(record: Mapping[str, Any]) -> None:
        with _refused(out):
            if is_csv:
                cells = {
                    name: dumps(value) if isinstance(value, list | dict) else value
                    for name, value in record.items()
                }
                rows.writerow(cells)
            else:
                stream.write(dumps(record) + "\n")

    return write
