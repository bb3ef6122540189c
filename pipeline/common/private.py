"""What holds data is the account's own: no other one can read it.

A folder with the setgid bit is shared with its group, as one of Git's is: what is made in it is as
open to the group as the umask lets it be. A folder that is there keeps its mode.
"""

import stat
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, that other accounts cannot enter.

    Raises:
        OSError: where it cannot be made, or is something else.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(_most(folder), exist_ok=True)


def protect(path: Path) -> None:
    """Take a new file or folder from other accounts, where its mode opens it to them."""
    path.chmod(stat.S_IMODE(path.stat().st_mode) & (_most(path) | stat.S_ISGID))


def _most(path: Path) -> int:
    shared = path.parent.stat().st_mode & stat.S_ISGID
    return 0o770 if shared else 0o700
