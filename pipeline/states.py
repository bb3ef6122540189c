"""Where the states of runs lie on disk, and whether somebody is at them; imports nothing heavy."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

FOLDER = "checkpoints"  # in the local store; in it one folder a run
STATES = "state-*.pt"


def folder_of(store: Path, run_id: str) -> Path:
    """Return the folder of a run's states in the local store."""
    return store / FOLDER / run_id


def lock_of(folder: Path) -> FileLock:
    """Return the lock that is held by who is at a run; it dies with the process."""
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def can_go_on(folder: Path) -> bool:
    """Whether a run has a state, and no living process is at it."""
    if not any(folder.glob(STATES)):
        return False
    try:
        with lock_of(folder).acquire(timeout=0):
            return True
    except Timeout:
        return False


def left_in(store: Path) -> list[str]:
    """Return the runs that have a state which no living process is at."""
    folders = sorted(path for path in (store / FOLDER).glob("*/"))
    return [folder.name for folder in folders if can_go_on(folder)]


def drop(folder: Path) -> None:
    """Delete a run's states and its lock, unless a living process is at the run."""
    lock = lock_of(folder)
    with suppress(Timeout), lock.acquire(timeout=0):
        remove(folder, lock)


def remove(folder: Path, lock: FileLock) -> None:
    """Delete a run's states, whose lock is held here, and the lock's file."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)
