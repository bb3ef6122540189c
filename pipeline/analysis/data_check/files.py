"""The files themselves: byte order marks, truncated last lines, rows that quotes have joined."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.analysis.data_check.report import Finding, Level, kind_of
from pipeline.common.errors import DataError, amount
from pipeline.config.data import DataConfig, FilesConfig
from pipeline.data import Rows
from pipeline.data.sources import SPLITS, files_of
from pipeline.data.text_files import UNREADABLE, lines, mark_of, uncompressed

_BY_LINE = (".csv", ".tsv", ".jsonl")


def file_findings(
    data: DataConfig, read: Mapping[str, Rows], refused: Mapping[str, Sequence[DataError]]
) -> list[Finding]:
    """Find byte order marks, ends without a line break, and rows of a tsv that quotes have joined.

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
            if split in read and _is_tabbed(path, data):
                found += _joined(split, name, read[split])
    return found


def _is_tabbed(path: Path, data: FilesConfig) -> bool:
    own = {".tsv": "tab"}.get(uncompressed(path).suffix.lower())
    return data.quoting != "none" and (data.delimiter or own) in ("tab", "\t")


def _joined(split: str, name: str, rows: Rows) -> list[Finding]:
    """Find texts that hold what ends a field and what ends a row, as few quoted texts do."""
    texts = zip(rows.ids, rows.shape.texts(rows), strict=True)
    ids = [i for i, text in texts if "\t" in text and "\n" in text and i.startswith(f"{name}:")]
    if not ids:
        return []
    message = (
        f"{split}: {amount(len(ids), 'text')} of {name} with a tab and a line break: a quote may "
        "have joined rows; if quotes are characters like others, data.quoting=none"
    )
    return [Finding.about("warning", "file", message, [[i] for i in ids])]


def _of_one(
    split: str, name: str, path: Path, encoding: str, rows: Rows | None, refused: Sequence[str]
) -> Iterator[Finding]:
    try:
        if codec := mark_of(path):
            message = f"{split}: {name} begins with a byte order mark, and is read as {codec}"
            yield Finding.about("note", "file", message, [[f"{name}:1"]])
        ends = deque(enumerate(lines(path, encoding), start=1), maxlen=1)
    except (DataError, *UNREADABLE):  # refused when its rows were read
        return
    number, last = ends[0] if ends else (0, "\n")
    if not last.endswith(("\n", "\r")):
        message = f"{split}: the last line of {name} has no line break"
        level: Level = "note"
        if ends_oddly(name, number, rows, refused):
            message += " and is unlike the others: the file seems to be truncated"
            level = "warning"
        yield Finding.about(level, "file", message, [[f"{name}:{number}"]])


def ends_oddly(name: str, line: int, rows: Rows | None, refused: Sequence[str]) -> bool:
    """Whether the last line has a fault of its own, or a label that is the beginning of another."""
    is_last = re.compile(rf"(, line |:){line}: ")
    faults = {kind_of(error) for error in refused if not is_last.search(error)}
    if any(kind_of(error) not in faults for error in refused if is_last.search(error)):
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
