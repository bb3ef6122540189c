"""Optuna's journal file, of which a full disk or a killed process costs at most the last line."""

import errno
import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from pipeline.common.errors import RESUMES, TrackingError, is_disk_fault
from pipeline.common.private import make_file
from pipeline.search.optuna_parts import is_journal_line, is_operation

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # as of NFS without its lock daemon


class Journal(JournalFileBackend):
    """A journal that ends with a whole line before and after every append.

    Optuna glues the next line to the half one that a full disk left, and reads neither again.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._own, self._alone = Path(path), _Lock(path)
        self._size = 0  # after this process's last append: whole lines, which nobody cuts off

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield operations.

        Raises:
            TrackingError: where the file is gone.
            ValueError: where a line is none of Optuna's; `damaged_line` says which.
        """
        with self._named():
            self._check_whole(self._own.stat().st_size)
            for log in super().read_logs(log_number_from):
                if not is_operation(log):
                    raise ValueError(f"{self._own}: a line is damaged")
                yield log

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Write operations, or raise.

        Where the disk fails, all of them are taken back. What a signal interrupts keeps the whole
        lines that were written: another process may have read them, and would go on in the middle
        of the next one.

        Raises:
            OSError: where the disk is full, or cannot be written.
            TrackingError: where the file is gone, or may not be written.
        """
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        with self._named(), self._alone, self._own.open("rb+", buffering=0) as file:
            end = _cut_to_whole_lines(file)
            self._check_whole(end)
            try:
                rest = memoryview(b"".join(lines))
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
            self._size = file.tell()

    def _check_whole(self, size: int) -> None:
        if size < self._size:
            raise FileNotFoundError(errno.ENOENT, "lines that were there are gone")

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_disk_fault(error):
                raise
            raise TrackingError(
                f"{self._own}: the study's journal cannot be used any more ({error.strerror}). "
                f"Put it back, then {RESUMES}."
            ) from error


class _Lock:
    """The kernel's lock, which ends with its process; Optuna's, where the file system has none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: Any = FileLock(f"{path}.flock")

    def __enter__(self) -> None:
        try:
            make_file(Path(f"{self._path}.flock"))
            self._lock.acquire()
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in _NO_LOCKS:
                raise
            self._lock = JournalFileSymlinkLock(self._path)
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def damaged_line(path: Path) -> int | None:
    """Return the number of the first line, from 1, that is no operation of Optuna's."""
    lines = path.read_bytes().splitlines()
    wrong = (number for number, line in enumerate(lines, start=1) if not is_journal_line(line))
    return next(wrong, None)


def _cut_to_whole_lines(file: BinaryIO) -> int:
    """Cut what follows the last line end, and return the size."""
    end = file.seek(0, os.SEEK_END)
    start, tail = end, b""
    while start and b"\n" not in tail:
        start = max(start - 4096, 0)
        file.seek(start)
        tail = file.read(end - start)
    whole = start + tail.rfind(b"\n") + 1
    if whole < end:
        file.truncate(whole)
    file.seek(whole)
    return whole
