"""CoNLL files: a word a line with its tags in columns, and a blank line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.errors import DataError, amount
from pipeline.common.text_format import TextFormat
from pipeline.data.rows import Record, Refuse
from pipeline.data.text_files import lines

_DOCUMENT = "-DOCSTART-"
_BLANKS = re.compile("[ \t]+")
_COMMENT = re.compile(r"#\s+(id|newdoc|newpar|\S+\s*=)(\s|$)")


def read_conll(path: Path, text_format: TextFormat, refuse: Refuse) -> Iterator[Record]:
    """Yield each sentence, with the line at which it begins.

    A record has each column of the file as a list by its number, "1", "2" …; the first is also
    ``tokens`` and, where there are several, the last ``tags``; ``lines`` are their numbers.
    Columns are separated by tabs if the first sentence has any, else by blanks. Left out are the
    lines that begin a document, and comments: lines before a sentence that begin with # and have
    another number of columns, or as those of known corpora do (``# id …``, ``# text = …``).
    """
    form = _Form(path)
    for sentence in _sentences(lines(path, text_format.encoding)):
        try:
            rows, numbers = form.read(sentence)
        except DataError as error:
            refuse(error)
            continue
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            named = {"tokens": columns[0], **({"tags": columns[-1]} if len(columns) > 1 else {})}
            numbered = {str(i): column for i, column in enumerate(columns, start=1)}
            yield numbers[0], {**named, **numbered, "lines": numbers}


def _sentences(every: Iterator[str]) -> Iterator[list[tuple[int, str]]]:
    """Yield the lines between blank ones, and between documents, with their numbers."""
    sentence: list[tuple[int, str]] = []
    for number, line in enumerate(every, start=1):
        if line.strip() and line.split()[0] != _DOCUMENT:
            sentence.append((number, line.rstrip("\r\n")))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


@dataclass
class _Form:
    """How the lines of a file are written, as the first sentences tell."""

    path: Path
    has_tabs: bool | None = None  # None: no sentence was seen yet
    width: int = 0  # columns; 0: none were seen yet, or one alone

    def read(self, sentence: Sequence[tuple[int, str]]) -> tuple[list[Sequence[str]], list[int]]:
        """Return the columns of each line without comments, and the lines' numbers.

        Raises:
            DataError: for a line with another number of columns.
        """
        has_tabs = any("\t" in line for _, line in sentence)
        has_tabs = has_tabs if self.has_tabs is None else self.has_tabs
        split = [
            (number, line.split("\t") if has_tabs else _BLANKS.split(line.strip(" \t")))
            for number, line in sentence
        ]
        usual = [len(columns) for _, columns in split if not columns[0].startswith("#")]
        hashtags = [len(columns) for _, columns in split if columns[0] != "#"]
        width = self.width or next(iter([*usual, *hashtags]), 0)
        for (_, line), (_, columns) in zip(sentence, split[:], strict=True):
            is_odd = len(columns) != width or _COMMENT.match(line)
            if not (line.startswith("#") and is_odd):
                break
            del split[0]
        if split:
            self.has_tabs = has_tabs
        for number, columns in split:
            if len(columns) != width:
                raise DataError(
                    f"{self.path}, line {number}: found {amount(len(columns), 'column')} "
                    f"({' '.join(columns)[:60]}); expected {width}, as in the lines before."
                )
        self.width = width if width > 1 else 0
        return [columns for _, columns in split], [number for number, _ in split]
