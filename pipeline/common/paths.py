"""Paths as a user gives them: with ``~``, of a folder, or with ``*``."""

import os
from glob import glob, has_magic
from pathlib import Path


def expanded(name: str) -> list[Path]:
    """Return what a path, a folder or a pattern names, sorted; what is not there as it is."""
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return sorted(path.iterdir())
    if path.exists() or not has_magic(name):
        return [path]
    return sorted(map(Path, glob(str(path)))) or [path]
