"""What holds data is the account's own: no other one can read it.

What is there keeps its mode. A folder with the setgid bit is shared with its group, as one of Git's
is: what is made in it is as open to the group as the umask lets it be, and never to all.
"""

import logging
import stat
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, that other accounts cannot enter.

    Raises:
        OSError: where it cannot be made, or is something else.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(_most(folder), exist_ok=True)


def make_file(path: Path) -> Path:
    """Make an empty file that other accounts cannot read, for a library to fill.

    Raises:
        OSError: where it cannot be made.
    """
    if not path.exists():
        path.touch(_most(path) & 0o666)
    return path


def protect(made: Path, place: Path) -> None:
    """Give what was made for a place the mode of what is there, or take it from other accounts."""
    there = place.exists()
    mode = stat.S_IMODE((place if there else made).stat().st_mode)
    with suppress(PermissionError):  # a file system may have no modes
        made.chmod(mode if there else mode & (_most(place) | stat.S_ISGID))


class LogFile(logging.FileHandler):
    """A log that other accounts cannot read."""

    def _open(self) -> TextIOWrapper:
        make_file(Path(self.baseFilename))
        return super()._open()


def _most(path: Path) -> int:
    shared = path.parent.stat().st_mode & stat.S_ISGID
    return 0o770 if shared else 0o700
