"""CoNLL files: a word a line with its tags in columns, and a blank line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.common.errors import DataError, amount
from pipeline.common.text_format import TextFormat
from pipeline.data.rows import Record, Refuse
from pipeline.data.text_files import lines

_DOCUMENT = "-DOCSTART-"
_BLANKS = re.compile("[ \t]+")


def read_conll(path: Path, text_format: TextFormat, refuse: Refuse) -> Iterator[Record]:
    """Yield each sentence, with the line at which it begins.

    A record has each column of the file as a list by its number, "1", "2" …; the first is also
    ``tokens``, the last ``tags``. Columns are separated by tabs, or where a file has none by
    blanks. Left out are the lines that begin a document, and comments: lines before a sentence
    that begin with # and have another number of columns than the first sentence.
    """
    sentence: list[Sequence[str]] = []
    start, width = 1, 0
    is_bad = False
    for number, line in enumerate(lines(path, text_format.encoding), start=1):
        if not line.strip():
            if sentence and not is_bad:
                yield start, _record(sentence)
            sentence, is_bad = [], False
            continue
        line = line.rstrip("\r\n")
        columns = line.split("\t") if "\t" in line else _BLANKS.split(line.strip(" "))
        if columns[0] == _DOCUMENT or _is_comment(columns, sentence, width):
            continue
        if not sentence:
            start = number
        width = width or len(columns)
        sentence.append(columns)
        if len(columns) != width or width < 2:
            if not is_bad:
                refuse(_fault(path, number, columns, width))
            is_bad = True
    if sentence and not is_bad:
        yield start, _record(sentence)


def _is_comment(columns: Sequence[str], sentence: Sequence[object], width: int) -> bool:
    return columns[0].startswith("#") and not sentence and len(columns) != max(2, width)


def _record(sentence: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    columns = [list(column) for column in zip(*sentence, strict=True)]
    numbered = {str(i): column for i, column in enumerate(columns, start=1)}
    return {"tokens": columns[0], "tags": columns[-1], **numbered}


def _fault(path: Path, number: int, columns: Sequence[str], width: int) -> DataError:
    expected = f"{width}, as in the first line with a word" if width > 1 else "a word and its tag"
    return DataError(
        f"{path}, line {number}: found {amount(len(columns), 'column')} ({' '.join(columns)[:60]});"
        f" expected {expected}."
    )
