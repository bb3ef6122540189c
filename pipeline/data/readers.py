"""Files to records: one small reader per format, which reports where a record is in its file.

`datasets` reads these formats too, but hides what went wrong: its errors name neither line nor
cause. Errors here name the file, the line, what was found and what was expected.
"""

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.common.errors import DataError, amount, did_you_mean, listing, quoted
from pipeline.common.text_format import DELIMITERS, PLAIN, TextFormat, key_of
from pipeline.data.class_labels import features_of, named
from pipeline.data.conll import read_conll
from pipeline.data.json_files import read_json
from pipeline.data.rows import Record, Refuse
from pipeline.data.text_files import (
    COMPRESSIONS,
    UNREADABLE,
    lines,
    uncompressed,
    why_unreadable,
)
from pipeline.data.values import header_hint

# Characters. csv's own limit of 131,072 is too small for a long text; without a limit an unclosed
# quote would read a file of any size into memory.
_LONGEST_FIELD = 2**24
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a `Path` makes one slash of two


def stop(error: DataError) -> None:
    """Stop reading at the first record that cannot be used."""
    raise error


def read_records(
    path: Path, text_format: TextFormat = PLAIN, refuse: Refuse = stop
) -> Iterator[Record]:
    """Yield the records of a file; its suffix determines the format.

    Args:
        path: a csv, tsv, json, jsonl, CoNLL, parquet or arrow file; all but the last two may be
            compressed.
        text_format: of the text formats; a byte order mark goes before its encoding.
        refuse: handles a line of bad syntax, if the lines after it can still be read.

    Raises:
        DataError: for a missing or empty file, an unknown suffix, wrong encoding or bad syntax.
    """
    if is_address(path):
        address = str(path).replace(":/", "://", 1)
        raise DataError(
            f"{address}: is a URL; expected a file. Download it first; data=hub reads data sets of "
            "the Hugging Face hub."
        )
    with _readable(path):
        if path.is_dir():
            raise DataError(f"{path}: is a folder; expected a file.")
        reader = reader_of(path)
        if reader is None:
            raise DataError(
                f"{path}: the suffix {path.suffix!r} is not a known format. Valid: "
                f"{listing(READERS)}; {listing(TEXTS)} may be compressed: {listing(COMPRESSIONS)}."
            )
        _check_file(path)
    return _read(reader(path, text_format, refuse), path)


def is_address(path: Path) -> bool:
    """Whether a path is a URL."""
    return _ADDRESS.match(str(path)) is not None


def _check_file(path: Path) -> None:
    """Refuse what is no file with something in it; what the system says of others is raised."""
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        if path.is_symlink():
            there = f"is a link to {os.readlink(path)}, which does not exist"
            raise DataError(f"{path}: {there}; expected a file.") from error
        others = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, others)
        raise DataError(
            f"{path}: there is no such file (working folder: {Path.cwd()}).{near}"
        ) from error
    if not path.is_file():
        raise DataError(f"{path}: is a pipe or a device; expected a file.")
    if size == 0:
        raise DataError(f"{path}: the file is empty; expected rows.")


def _read(records: Iterator[Record], path: Path) -> Iterator[Record]:
    with _readable(path):
        yield from records


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise DataError(f"{path}: {why_unreadable(path, error)}") from error
    except RecursionError as error:
        raise DataError(f"{path}: lists or objects are nested too deeply to be read.") from error


def _read_delimited(
    path: Path, text_format: TextFormat, refuse: Refuse, delimiter: str
) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    given = text_format.delimiter
    reader = csv.reader(
        lines(path, text_format.encoding),
        delimiter=DELIMITERS.get(given, given) if given else delimiter,
        quoting=csv.QUOTE_NONE if text_format.quoting == "none" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    start = 1
    try:
        header = next(reader, [])
        _check_header(header, path, may_split=not given)
        start = reader.line_num + 1
        for values in reader:
            if len(values) != len(header):
                if values:  # csv yields [] for a blank line
                    refuse(
                        DataError(
                            f"{path}, line {start}: found {amount(len(values), 'field')}, expected "
                            f"{len(header)} ({quoted(header)})."
                        )
                    )
            elif values == header and len(header) > 1:
                refuse(DataError(f"{path}, line {start}: the header again; expected a row."))
            else:
                yield start, dict(zip(header, values, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        # csv may fail as late as the last line: an open quote swallows what follows.
        raise DataError(
            f"{path}, line {start}: {error}, in the record that starts there; expected every quote "
            "to be closed, and doubled if it is part of a text. If quotes are characters like "
            f"others: {key_of('quoting', 'none')}."
        ) from error


def _check_header(header: Sequence[str], path: Path, *, may_split: bool) -> None:
    """Refuse a header that names no columns, one twice, or several in one that is not split."""
    if not any(name.strip() for name in header):
        raise DataError(f"{path}, line 1: expected a header with the names of the columns.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}, line 1: the header names the column {twice[0]!r} twice.{header_hint(header)}"
        )
    fitting = max(DELIMITERS, key=lambda name: header[0].count(DELIMITERS[name]))
    if len(header) == 1 and may_split and DELIMITERS[fitting] in header[0]:
        raise DataError(
            f"{path}, line 1: the header is one column, {quoted(header)}; expected the names of "
            f"the columns with another delimiter. Try {key_of('delimiter', fitting)}."
        )


def _read_parquet(path: Path, _format: TextFormat, _refuse: Refuse) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        yield from _rows(file.iter_batches(), file.schema_arrow)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file ({error}).") from error


def _read_arrow(path: Path, _format: TextFormat, _refuse: Refuse) -> Iterator[Record]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            try:
                table = pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:  # `datasets` writes the streaming format, without a footer
                source.seek(0)
                table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: not an arrow file ({error}).") from error
        yield from _rows(table.to_batches(), table.schema)


def _rows(batches: Iterable[Any], schema: Any) -> Iterator[Record]:
    rows = (row for batch in batches for row in batch.to_pylist())
    return enumerate(named(rows, features_of(schema)), start=1)


READERS: dict[str, Callable[[Path, TextFormat, Refuse], Iterator[Record]]] = {
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".json": partial(read_json, by_line=False),
    ".jsonl": partial(read_json, by_line=True),
    ".conll": read_conll,
    ".iob": read_conll,
    ".iob2": read_conll,
    ".bio": read_conll,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
_NO_TEXTS = (".parquet", ".arrow")
TEXTS = tuple(suffix for suffix in READERS if suffix not in _NO_TEXTS)  # which may be compressed


def reader_of(path: Path) -> Callable[[Path, TextFormat, Refuse], Iterator[Record]] | None:
    """Return what reads a file, by its suffix; None: no format is known by it."""
    plain = uncompressed(path)
    suffix = plain.suffix.lower()
    return READERS.get(suffix) if plain == path or suffix in TEXTS else None
