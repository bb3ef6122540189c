"""The rows that a service gets: each split a file in its layout, named by its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import at
from pipeline.data.layouts import LAYOUTS

if TYPE_CHECKING:
    from pipeline.data import Rows, Splits

SENT = ("train", "validation")  # the test split stays here; its prompts alone are asked
PREFIX = "tunewright-"  # of the names of our files
_LINES = re.compile(r"\b(?:lines?|examples?|rows?)[ :#]*(\d+(?:(?:, | and )\d+)*)", re.IGNORECASE)


@dataclass(frozen=True)
class SentFile:
    """A split as a service reads it."""

    name: str  # the same for the same content
    content: bytes


def sent_files(splits: Splits, layout: str) -> dict[str, SentFile]:
    """Return the files of the splits that a service gets.

    Raises:
        DataError: for a conversation that the layout cannot hold, naming its row.
    """
    return {split: _file(splits.by_name[split], layout) for split in SENT}


def _file(rows: Rows, layout: str) -> SentFile:
    lines = []
    for row_id, conversation in zip(rows.ids, rows["messages"], strict=True):
        with at(f"row {row_id}"):
            lines.append(json.dumps(LAYOUTS[layout].write(conversation), ensure_ascii=False))
    content = "".join(f"{line}\n" for line in lines).encode()
    digest = hashlib.sha256(content).hexdigest()
    return SentFile(f"{PREFIX}{digest[:32]}.jsonl", content)


def upload(
    files: Mapping[str, SentFile], folder: Path, send: Callable[[Path], str]
) -> dict[str, str]:
    """Return the service's id of each file.

    Args:
        files: by split.
        folder: to write them in; nothing is left there.
        send: uploads a file, or tells the id of one of its name that the service has.
    """
    found = {}
    for split, file in files.items():
        path = folder / file.name
        path.write_bytes(file.content)
        try:
            found[split] = send(path)
        finally:
            path.unlink(missing_ok=True)
    return found


def named_rows(said: str, rows: Rows) -> str:
    """Return which rows a service's words mean by their lines in the file; empty for none."""
    lines = {int(n) for found in _LINES.findall(said) for n in re.findall(r"\d+", found)}
    named = [f"line {n} is row {rows.ids[n - 1]}" for n in sorted(lines) if 0 < n <= len(rows)]
    return "; ".join(named[:20])
