"""What the server remembers: JSON files, each complete or absent, and lists that only grow."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.common.atomic import replacing
from pipeline.common.private import make_file
from pipeline.hosting.errors import missing

Document = dict[str, Any]


def new_id(kind: str) -> str:
    """Return an unused id, as ``file-0a1b…``; those of a kind sort by time."""
    return f"{kind}-{time.time_ns():016x}{secrets.token_hex(4)}"


def place_of(folder: Path, kind: str, one_id: str, what: str, param: str | None = None) -> Path:
    """Return the folder of something with an id.

    Raises:
        ApiError: where there is none; an id is no path.
    """
    place = folder / one_id
    if not (re.fullmatch(rf"{kind}-[0-9a-f]+", one_id) and place.is_dir()):
        raise missing(what, one_id, param)
    return place


def write(path: Path, document: Document) -> None:
    """Write a document, durably: a client may have been told of it."""
    with replacing(path, durable=True) as made:
        made.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def read(path: Path) -> Document:
    """Read a document."""
    document: Document = json.loads(path.read_text(encoding="utf-8"))
    return document


def append(path: Path, document: Document) -> None:
    """Add a line to a list."""
    make_file(path)
    with path.open("ab") as stream:  # a line of its own, also after one that was cut off
        stream.write(f"\n{json.dumps(document)}\n".encode())


def read_lines(path: Path) -> list[Document]:
    """Read a list; a line that a killed process did not finish is none."""
    if not path.is_file():
        return []
    found: list[Document] = []
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def page(every: Sequence[Document], after: str | None, limit: int, what: str) -> Document:
    """Return the part of a list that follows an id, as OpenAI's pages are.

    Raises:
        ApiError: where nothing has that id.
    """
    start = 0
    if after is not None:
        ids = [one["id"] for one in every]
        if after not in ids:
            raise missing(what, after, "after")
        start = ids.index(after) + 1
    data = list(every[start : start + limit])
    return {"object": "list", "data": data, "has_more": start + limit < len(every)}
