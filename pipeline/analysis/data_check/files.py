"""The files as bytes: a byte order mark, and a last line that may be truncated."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from pipeline.analysis.data_check.report import Finding, Level

_TEXT = (".csv", ".tsv", ".jsonl")


def file_findings(split: str, path: Path, last_is_odd: bool) -> list[Finding]:
    """Find a byte order mark, and an end without a line break.

    Args:
        split: what the file is.
        path: the file.
        last_is_odd: whether its last row could not be read, or has a truncated label.
    """
    if path.suffix.lower() not in _TEXT or not path.is_file():
        return []
    found = []
    with path.open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            message = f"{split}: {path.name} begins with a byte order mark, which is skipped"
            found.append(Finding.about("note", "file", message, [[f"{path.name}:1"]]))
        file.seek(-1, os.SEEK_END)
        last = file.read()
    if last not in (b"\n", b"\r"):
        line = _lines(path)
        message = f"{split}: the last line of {path.name} has no line break"
        if last_is_odd:
            message += " and is unlike the others: the file seems to be truncated"
        level: Level = "warning" if last_is_odd else "note"
        found.append(Finding.about(level, "file", message, [[f"{path.name}:{line}"]]))
    return found


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
