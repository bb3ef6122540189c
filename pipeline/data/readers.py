"""Files to records: one small reader per format, which reports where a record is in its file.

`datasets` reads these formats too, but hides what went wrong: its errors name neither line nor
cause. Errors here name the file, the line, what was found and what was expected.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.common.errors import DataError, did_you_mean, listing

# Characters. csv's own limit of 131,072 is too small for a long text; without a limit an unclosed
# quote would read a file of any size into memory.
_LONGEST_FIELD = 2**24

Record = tuple[int, Mapping[str, Any]]  # line (text formats) or row number, from 1; and the values
Refuse = Callable[[DataError], None]  # called for a record that cannot be used


def stop(error: DataError) -> None:
    """Stop reading at the first record that cannot be used."""
    raise error


def read_records(path: Path, encoding: str, refuse: Refuse = stop) -> Iterator[Record]:
    """Yield the records of a file; its suffix determines the format.

    Args:
        path: a csv, tsv, json, jsonl, parquet or arrow file.
        encoding: of the text formats; a byte order mark is skipped.
        refuse: handles a line of bad syntax, if the lines after it can still be read.

    Raises:
        DataError: for a missing or empty file, an unknown suffix, wrong encoding or bad syntax.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: the suffix {path.suffix!r} is not a known format. Valid: {listing(READERS)}."
        )
    with _readable(path):
        if path.is_dir():
            raise DataError(f"{path}: is a folder; expected a file.")
        if not path.is_file():
            others = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            near = did_you_mean(path.name, others)
            raise DataError(f"{path}: there is no such file (working folder: {Path.cwd()}).{near}")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; expected rows.")
    return _read(reader(path, encoding, refuse), path)


def _read(records: Iterator[Record], path: Path) -> Iterator[Record]:
    with _readable(path):
        yield from records


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except RecursionError as error:
        raise DataError(f"{path}: lists or objects are nested too deeply to be read.") from error


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield decoded lines with their ends; a line that cannot be decoded is named."""
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    number = 0
    try:
        # newline="" keeps \r\n and line breaks inside quotes as csv wants them.
        with path.open(encoding=codec, newline="") as stream:
            for number, line in enumerate(stream, start=1):  # noqa: B007 - read in the handler
                yield line
    except UnicodeDecodeError as error:
        # The decoder reads ahead in blocks, so find the line by the bytes.
        line_number = _first_undecodable_line(path, encoding) or number + 1
        bad = error.object[error.start]
        raise DataError(
            f"{path}, line {line_number}: byte 0x{bad:02x} is not {encoding}. "
            "Give the file's encoding, for example data.encoding=latin-1 (--encoding to convert)."
        ) from error
    except LookupError as error:
        raise DataError(
            f"data.encoding={encoding}: no such encoding. For example utf-8, latin-1, gb18030."
        ) from error


def _first_undecodable_line(path: Path, encoding: str) -> int | None:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return number
    return None


def _read_delimited(path: Path, encoding: str, refuse: Refuse, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    reader = csv.reader(_lines(path, encoding), delimiter=delimiter, strict=True)
    start = 1
    try:
        header = next(reader, [])
        if not any(name.strip() for name in header):
            raise DataError(f"{path}, line 1: expected a header with the names of the columns.")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise DataError(f"{path}, line 1: the header names the column {twice[0]!r} twice.")
        start = reader.line_num + 1
        for values in reader:
            if values:  # csv yields [] for a blank line
                if len(values) == len(header):
                    yield start, dict(zip(header, values, strict=True))
                else:
                    refuse(
                        DataError(
                            f"{path}, line {start}: found {len(values)} fields, expected "
                            f"{len(header)} ({listing(header)})."
                        )
                    )
            start = reader.line_num + 1
    except csv.Error as error:
        # csv may fail as late as the last line: an open quote swallows what follows.
        raise DataError(
            f"{path}, line {start}: {error}, in the record that starts there; expected every quote "
            "to be closed, and doubled if it is part of a text."
        ) from error


def _read_jsonl(path: Path, encoding: str, refuse: Refuse) -> Iterator[Record]:
    for number, line in enumerate(_lines(path, encoding), start=1):
        if not line.strip():
            continue
        try:
            value = _parsed(line, path, number, "one object a line")
            record = _as_object(value, path, f"line {number}")
        except DataError as error:
            refuse(error)
        else:
            yield number, record


def _read_json(path: Path, encoding: str, _refuse: Refuse) -> Iterator[Record]:
    value = _parsed("".join(_lines(path, encoding)), path, None, "one array of objects")
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        yield from enumerate(_squad(value["data"], path), start=1)
        return
    if not isinstance(value, list):
        raise DataError(
            f"{path}: found a JSON {_json_type(value)}, expected an array of objects, or the "
            'layout of SQuAD\'s own files: {"data": [{"paragraphs": […]}]}.'
        )
    for number, item in enumerate(value, start=1):
        yield number, _as_object(item, path, f"item {number}")


def _squad(articles: Sequence[Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the questions of SQuAD's own layout, each with its context, as flat rows."""
    for i, article in enumerate(articles, start=1):
        place = f"data, item {i}"
        paragraphs = _list_in(_as_object(article, path, place), "paragraphs", path, place)
        for j, paragraph in enumerate(paragraphs, start=1):
            of = f"{place}, paragraph {j}"
            paragraph = _as_object(paragraph, path, of)
            for k, asked in enumerate(_list_in(paragraph, "qas", path, of), start=1):
                question = _as_object(asked, path, f"{of}, question {k}")
                row = {
                    "title": article.get("title", ""),
                    "context": paragraph.get("context"),
                    "question": question.get("question"),
                    "id": question.get("id", ""),
                }
                if question.get("is_impossible") is True:
                    row["answers"] = []  # plausible but wrong answers have their own key
                elif "answers" in question:  # a test file, to predict from, has none
                    row["answers"] = question["answers"]
                yield row


def _list_in(values: Mapping[str, Any], key: str, path: Path, place: str) -> list[Any]:
    found = values.get(key)
    if not isinstance(found, list):
        there = f"{key!r} is {found!r:.60}" if key in values else f"found {listing(values)}"
        near = "" if key in values else did_you_mean(key, values)
        raise DataError(
            f"{path}, {place}: {there}; expected {key!r} with an array, as SQuAD's own files have "
            f"it.{near}"
        )
    return found


def _parsed(text: str, path: Path, line: int | None, expected: str) -> Any:
    """Parse the JSON of a line or, without a line number, of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {line or error.lineno}: not JSON ({error.msg}, column {error.colno}); "
            f"expected {expected}."
        ) from error
    except ValueError as error:  # Python's guard against numbers that take long to parse
        place = f"{path}, line {line}" if line else path
        digits = sys.get_int_max_str_digits()
        raise DataError(
            f"{place}: a whole number has more than {digits} digits; expected one of at most so "
            "many, or a text in quotes."
        ) from error


def _as_object(value: Any, path: Path, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{path}, {place}: found a JSON {_json_type(value)}, expected an object whose keys are "
            "the columns."
        )
    return value


def _json_type(value: Any) -> str:
    """Return what JSON calls a value's type."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names: dict[type, str] = {dict: "object", list: "array", str: "string"}
    return names.get(type(value), "number")


def _read_parquet(path: Path, _encoding: str, _refuse: Refuse) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield from _rows(pq.ParquetFile(path).iter_batches())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file ({error}).") from error


def _read_arrow(path: Path, _encoding: str, _refuse: Refuse) -> Iterator[Record]:
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
        yield from _rows(table.to_batches())


def _rows(batches: Iterable[Any]) -> Iterator[Record]:
    return enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


READERS: dict[str, Callable[[Path, str, Refuse], Iterator[Record]]] = {
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
