"""Paths as a user gives them: with ``~``, of a folder, or with ``*``."""

import os
from glob import escape, glob, has_magic
from pathlib import Path


def is_pattern(path: str) -> bool:
    """Whether a path has the signs of a pattern, and is no file of that name."""
    return has_magic(path) and not os.path.lexists(path)


def expanded(name: str) -> list[Path]:
    """Return what is in a folder or matches a pattern, sorted, without hidden files; or the path.

    Whether the path can be read is seen when it is.
    """
    given = os.path.expanduser(name)
    found = []
    if os.path.isdir(given):
        found = glob(os.path.join(escape(given), "*"))
    elif is_pattern(given):
        found = glob(given)
    return sorted(map(Path, found)) or [Path(given)]
