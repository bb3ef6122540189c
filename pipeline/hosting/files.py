"""Uploaded files of one account: each a folder with the content and what is said of it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from pipeline.common.atomic import remove_leftovers, replacing, scratch
from pipeline.common.private import make_folder
from pipeline.hosting.documents import Document, new_id, page, place_of, read, write
from pipeline.hosting.errors import ApiError, invalid, missing
from pipeline.hosting.limits import Limits

PURPOSE = "fine-tune"
_ABOUT = "file.json"
_BLOCK = 1 << 20  # bytes


class Files:
    """The files of an account."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        make_folder(folder)
        remove_leftovers(folder)  # of an upload that a stop cut off

    def add(self, name: str, purpose: str, content: IO[bytes]) -> Document:
        """Keep a file that is uploaded; it is complete or absent.

        Args:
            name: the client's, of which the last part is kept.
            purpose: only ``fine-tune``.
            content: its bytes.

        Raises:
            ApiError: for another purpose, an empty file, and one that is too large.
        """
        if purpose != PURPOSE:
            raise invalid(
                f"{purpose!r} is not one of the purposes that this server knows; expected "
                f"{PURPOSE!r}.",
                "purpose",
            )
        about: Document = {
            "id": new_id("file"),
            "object": "file",
            "created_at": int(time.time()),
            "filename": name.replace("\\", "/").rpartition("/")[2],
            "purpose": purpose,
            "status": "processed",
        }
        with replacing(self._folder / about["id"]) as made:
            make_folder(made)
            about["bytes"] = self._copy(content, made / _content(about["id"]))
            write(made / _ABOUT, about)
        return about

    def _copy(self, content: IO[bytes], place: Path) -> int:
        size = 0
        with place.open("wb") as stream:
            while block := content.read(_BLOCK):
                size += len(block)
                if size > self._limits.file_bytes:
                    raise ApiError(
                        413,
                        f"The file is larger than {self._limits.file_bytes} bytes, the most that "
                        "this server takes.",
                        param="file",
                    )
                stream.write(block)
        if not size:
            raise invalid("The file is empty; expected a conversation in each line.", "file")
        return size

    def all(self) -> list[Document]:
        """Return what is said of each file, the newest first."""
        every: list[Document] = []
        for about in self._folder.glob(f"file-*/{_ABOUT}"):
            with suppress(FileNotFoundError):  # it is deleted meanwhile
                every.append(read(about))
        return sorted(every, key=lambda one: one["id"], reverse=True)

    def page(self, after: str | None, limit: int, order: str, purpose: str | None) -> Document:
        """Return a page of the files."""
        every = [one for one in self.all() if purpose in (None, one["purpose"])]
        return page(every[::-1] if order == "asc" else every, after, limit, "File object")

    def get(self, file_id: str, param: str | None = None) -> Document:
        """Return what is said of a file."""
        return read(self._place(file_id, param) / _ABOUT)

    def content(self, file_id: str, param: str | None = None) -> Path:
        """Return where a file's bytes are."""
        return self._place(file_id, param) / _content(file_id)

    def delete(self, file_id: str) -> Document:
        """Delete a file; at no time is there a part of it."""
        place = self._place(file_id)
        try:
            with scratch(place) as gone:
                place.rename(gone)
        except FileNotFoundError:  # somebody else was faster
            raise missing("File object", file_id) from None
        return {"id": file_id, "object": "file", "deleted": True}

    def _place(self, file_id: str, param: str | None = None) -> Path:
        return place_of(self._folder, "file", file_id, "File object", param)


def _content(file_id: str) -> str:
    """Return the name of a file's content, which no other file's has: messages name it."""
    return f"{file_id}.jsonl"
