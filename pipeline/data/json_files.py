"""JSON: lines of objects, an array of them, or SQuAD's own layout, as flat records."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pipeline.common.errors import DataError, did_you_mean, listing
from pipeline.common.text_format import TextFormat
from pipeline.data.rows import Record, Refuse
from pipeline.data.text_files import lines


def read_json(
    path: Path, text_format: TextFormat, refuse: Refuse, *, by_line: bool
) -> Iterator[Record]:
    """Yield the objects of JSON lines or of one document, whichever the text is.

    Args:
        path: the file.
        text_format: says its encoding.
        refuse: handles a line that cannot be used.
        by_line: whether its suffix promises JSON lines.

    Raises:
        DataError: for a document that cannot be read.
    """
    numbered = ((n, s) for n, s in enumerate(lines(path, text_format.encoding), 1) if s.strip())
    begun = list(islice(numbered, 2))

    def text() -> str:
        return "".join(lines(path, text_format.encoding))

    if not _is_by_line([line for _, line in begun], text, promised=by_line):
        yield from _read_document(text(), path)
        return
    for number, line in chain(begun, numbered):
        try:
            value = _parsed(line, path, number, "one object a line")
            record = _as_object(value, path, f"line {number}")
        except DataError as error:
            refuse(error)
        else:
            yield number, record


def _is_by_line(begun: Sequence[str], text: Callable[[], str], *, promised: bool) -> bool:
    """Whether each line is a value; promised of a first line that is broken, or the only one."""
    first = begun[0] if begun else ""
    try:
        value = json.loads(first)
    except ValueError:
        return promised and not first.lstrip().startswith("[") and not _goes_on(first, text())
    return len(begun) > 1 or (promised and isinstance(value, dict))


def _goes_on(first: str, text: str) -> bool:
    """Whether a text's first value goes on below its first line, as pretty-printed ones do."""
    try:
        _, end = json.JSONDecoder().raw_decode(text.lstrip())
    except ValueError:
        return False
    return end > len(first.strip())


def _read_document(text: str, path: Path) -> Iterator[Record]:
    value, place = _parsed(text, path, None, "one array of objects"), "item"
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value, place = value["data"], "data, item"
        if any(isinstance(item, dict) and "paragraphs" in item for item in value):
            yield from enumerate(_squad(value, path), start=1)
            return
    if isinstance(value, dict) and _is_row(value):
        value = [value]
    if not isinstance(value, list):
        raise DataError(
            f"{path}: found a JSON {_json_type(value)}, expected an array of objects, as it is or "
            'in {"data": […]}, one object a line, or the layout of SQuAD\'s own files: '
            '{"data": [{"paragraphs": […]}]}.'
        )
    for number, item in enumerate(value, start=1):
        yield number, _as_object(item, path, f"{place} {number}")


def _is_row(value: Mapping[str, Any]) -> bool:
    """Whether an object is one row: it has a text, and nothing in it may be rows."""
    lists = [some for some in value.values() if isinstance(some, list)]
    is_nested = any(isinstance(item, dict) for some in lists for item in some)
    return not is_nested and any(isinstance(text, str) for text in value.values())


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
        return _DECODER.decode(text)
    except DataError as error:
        raise DataError(f"{_place(path, line)}: {error}") from error
    except json.JSONDecodeError as error:
        if line is None and error.msg == "Extra data":
            raise DataError(
                f"{path}, line {error.lineno}: more than one JSON document; expected one array of "
                "objects, or one object a line, without line breaks in it."
            ) from error
        raise DataError(
            f"{path}, line {line or error.lineno}: not JSON ({error.msg}, column {error.colno}); "
            f"expected {expected}."
        ) from error
    except ValueError as error:  # Python's guard against numbers that take long to parse
        digits = sys.get_int_max_str_digits()
        raise DataError(
            f"{_place(path, line)}: a whole number has more than {digits} digits; expected one of "
            "at most so many, or a text in quotes."
        ) from error


def _place(path: Path, line: int | None) -> str:
    return f"{path}, line {line}" if line else str(path)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object, none of whose keys hides another."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"an object has the key {twice!r} twice; expected one value a key.")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


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
