"""The files as bytes: a byte order mark, and a last line that may be truncated."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping, Sequence

from pipeline.analysis.data_check.report import Finding, Level
from pipeline.common.errors import DataError
from pipeline.config.data import DataConfig, FilesConfig
from pipeline.data import Rows
from pipeline.data.sources import SPLITS, path_of

_TEXT = (".csv", ".tsv", ".jsonl")


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
    found = []
    for split in SPLITS:
        path = path_of(data, split)
        if path is None or path.suffix.lower() not in _TEXT or not path.is_file():
            continue
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
            file.seek(0)
            if file.read(3) == codecs.BOM_UTF8:
                message = f"{split}: {path.name} begins with a byte order mark, which is skipped"
                found.append(Finding.about("note", "file", message, [[f"{path.name}:1"]]))
            file.seek(-1, os.SEEK_END)
            last = file.read()
        if last not in (b"\n", b"\r"):
            message = f"{split}: the last line of {path.name} has no line break"
            level: Level = "note"
            if _ends_oddly(lines, read.get(split), refused.get(split, ())):
                message += " and is unlike the others: the file seems to be truncated"
                level = "warning"
            found.append(Finding.about(level, "file", message, [[f"{path.name}:{lines}"]]))
    return found


def _ends_oddly(last: int, rows: Rows | None, refused: Sequence[DataError]) -> bool:
    """Whether the last line was refused, or has a label that is the beginning of another."""
    if any(f"line {last}" in str(error) or f":{last}:" in str(error) for error in refused):
        return True
    if rows is None:
        return False
    labels = rows.shape.labels(rows)
    others = {name for names in labels[:-1] for name in names}
    return any(
        name not in others and any(other.startswith(name) for other in others)
        for name in labels[-1]
    )
