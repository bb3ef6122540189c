"""A cache on disk: a folder an entry, complete or absent; the least recently used go first."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.common.atomic import replacing, scratch
from pipeline.common.private import make_folder

_DAY = 24 * 3600.0  # seconds


@dataclass(frozen=True)
class Entries:
    """Entries by key, for all processes.

    What is no entry has a name that begins with a dot: locks, and folders that are filled or
    deleted. A process that reads an entry that another removes keeps it, since the files last as
    long as somebody has them.
    """

    folder: Path
    most_bytes: int
    most_entries: int | None = None

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Keep others from an entry that is made.

        Raises:
            OSError, NotImplementedError: where there can be no lock.
        """
        make_folder(self.folder)
        with self._lock(key):
            yield

    @contextmanager
    def put(self, key: str) -> Iterator[Path]:
        """Give a folder to fill, which is the entry afterwards.

        If somebody was faster, where locks are not kept, that entry stays.
        """
        make_folder(self.folder)
        with replacing(self.folder / key, keep=True) as made:
            made.mkdir()
            yield made

    def touch(self, key: str) -> None:
        """Note that an entry is used."""
        with suppress(OSError):
            os.utime(self.folder / key)

    def remove(self, key: str) -> None:
        """Delete an entry, if it is there; at no time is there a part of it."""
        if (self.folder / key).exists():
            with scratch(self.folder / key) as gone:
                (self.folder / key).rename(gone)

    def tidy(self, kept: Collection[str], new_bytes: int = 0) -> None:
        """Remove what killed processes left, and the longest unused entries beyond the limits.

        Entries whose keys are in ``kept`` stay; room is made for ``new_bytes`` more.
        """
        found: list[tuple[bool, float, int, str]] = []
        total = new_bytes
        for path in self.folder.glob("*/"):
            with suppress(OSError):  # others tidy as well
                used = path.stat().st_mtime
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                if not path.name.startswith("."):
                    found.append((path.name not in kept, -used, size, path.name))
                elif used < time.time() - _DAY:
                    shutil.rmtree(path, ignore_errors=True)
                else:  # somebody fills it
                    total += size
        for place, (can_go, _, size, key) in enumerate(sorted(found), start=1):
            total += size
            fits = self.most_entries is None or place <= self.most_entries
            if can_go and not (fits and total <= self.most_bytes):
                lock = self._lock(key)
                with suppress(OSError), lock.acquire(timeout=0):
                    self.remove(key)
                    Path(lock.lock_file).unlink(missing_ok=True)

    def _lock(self, key: str) -> FileLock:
        return FileLock(self.folder / f".{key}.lock")
