"""The files themselves: a byte order mark, and a last line that may be truncated."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.analysis.data_check.report import Finding, Level
from pipeline.common.errors import DataError
from pipeline.config.data import DataConfig, FilesConfig
from pipeline.data import Rows
from pipeline.data.sources import SPLITS, files_of
from pipeline.data.text_files import UNREADABLE, lines, mark_of, uncompressed

_BY_LINE = (".csv", ".tsv", ".jsonl")


def file_findings(
    data: DataConfig, read: Mapping[str, Rows], refused: Mapping[str, Sequence[DataError]]
) -> list[Finding]:
    """Find byte order marks, and ends without a line break.

    Args:
        data: where the rows come from.
        read: the rows of each split.
        refused: why others could not be read.
    """
    if not isinstance(data, FilesConfig):
        return []
    found: list[Finding] = []
    for split in SPLITS:
        for name, path in files_of(data, split).items():
            if uncompressed(path).suffix.lower() in _BY_LINE and os.path.isfile(path):
                about = [str(e) for e in refused.get(split, ()) if str(e).startswith(str(path))]
                found += _of_one(split, name, path, data.encoding, read.get(split), about)
    return found


def _of_one(
    split: str, name: str, path: Path, encoding: str, rows: Rows | None, refused: Sequence[str]
) -> Iterator[Finding]:
    number, last = 0, "\n"
    try:
        if codec := mark_of(path):
            message = f"{split}: {name} begins with a byte order mark, and is read as {codec}"
            yield Finding.about("note", "file", message, [[f"{name}:1"]])
        for number, last in enumerate(lines(path, encoding), start=1):  # noqa: B007 - the last one
            pass
    except (DataError, *UNREADABLE):  # refused when its rows were read
        return
    if not last.endswith(("\n", "\r")):
        message = f"{split}: the last line of {name} has no line break"
        level: Level = "note"
        if _ends_oddly(name, number, rows, refused):
            message += " and is unlike the others: the file seems to be truncated"
            level = "warning"
        yield Finding.about(level, "file", message, [[f"{name}:{number}"]])


def _ends_oddly(name: str, line: int, rows: Rows | None, refused: Sequence[str]) -> bool:
    """Whether a file's last line was refused, or has a label that is the beginning of another."""
    if any(f"line {line}" in error or f":{line}:" in error for error in refused):
        return True
    ids = rows.ids if rows else ()
    last = next((i for i in reversed(range(len(ids))) if ids[i].startswith(f"{name}:")), None)
    if rows is None or last is None:
        return False
    labels = rows.shape.labels(rows)
    others = {label for i, row in enumerate(labels) if i != last for label in row}
    return any(
        label not in others and any(other.startswith(label) for other in others)
        for label in labels[last]
    )
