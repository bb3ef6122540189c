"""Files and folders that are complete or absent: made next to their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.private import protect

_SUFFIX = ".making"  # of the hidden folders in which things are made


@contextmanager
def replacing(path: Path, *, durable: bool = False, keep: bool = False) -> Iterator[Path]:
    """Yield a path to write a file or folder to, which takes the place of ``path`` at the end.

    After an error the place is as it was. What is new there is for no other account to read; what
    takes the place of something has its mode.

    Args:
        path: the place; its folder must exist.
        durable: flush the file to the disk, so that it is whole even if the machine stops.
        keep: keep a folder that another process put there meanwhile, instead of raising.
    """
    with scratch(path) as made:
        yield made
        protect(made, path)
        if durable:
            _sync(made)
        try:
            made.replace(path)
        except OSError:
            if not (keep and path.is_dir()):
                raise
        if durable:
            _sync(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield an unused path with the name of another, on its disk; delete what is there at the end.

    It lies in a hidden folder next to ``path``.
    """
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-", suffix=_SUFFIX))
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Delete what killed processes did not finish of things whose name has a pattern.

    Call it only where nobody else writes.
    """
    for left in folder.glob(f".{name}-*{_SUFFIX}"):
        shutil.rmtree(left, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # only there can a folder be opened
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
