"""Where runs keep their states on disk, and which are in use; imports nothing heavy."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.common.errors import TrackingError
from pipeline.common.private import make_folder

FOLDER = "checkpoints"  # in the local store; in it one folder a run
STATES = "state-*.pt"
HOSTED = "hosted.json"  # what a run knows of its job at a service


def folder_of(store: Path, run_id: str) -> Path:
    """Return the folder of a run's states in the local store."""
    return store / FOLDER / run_id


def lock_of(folder: Path) -> FileLock:
    """Return the lock that a run's process holds; it dies with the process."""
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def take(folder: Path) -> FileLock:
    """Return a run's lock, held; the folder that its own is in is made.

    Raises:
        TrackingError: if another process holds it, or it cannot be created.
    """
    lock = lock_of(folder)
    try:
        make_folder(folder.parent)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrackingError(
            f"run {folder.name} is still running: another process holds {lock.lock_file}. Wait for "
            "it to finish, or stop it."
        ) from error
    except OSError as error:
        raise TrackingError(f"{folder.parent}: cannot write checkpoints here ({error}).") from error
    return lock


def has_states(folder: Path) -> bool:
    """Whether a run has a state on disk."""
    return any(folder.glob(STATES)) or (folder / HOSTED).is_file()


def has_job(folder: Path) -> bool:
    """Whether a run has asked a service for a job, which may be at work, or done and paid."""
    try:
        state = json.loads((folder / HOSTED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:  # damaged: what is not known may be paid
        return True
    return bool(state.get("asked", True))


def is_free(folder: Path) -> bool:
    """Whether no living process works on a run, judging by its lock."""
    lock = lock_of(folder)
    if not Path(lock.lock_file).exists():
        return True
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def can_resume(folder: Path) -> bool:
    """Whether a run has a state, and no living process works on it."""
    return has_states(folder) and is_free(folder)


def left_in(store: Path) -> list[str]:
    """Return the runs that left a state or a lock, and that no living process works on."""
    parent = store / FOLDER
    names = {path.name for path in parent.glob("*/")} | {p.stem for p in parent.glob("*.lock")}
    return [name for name in sorted(names) if is_free(parent / name)]


def drop(folder: Path) -> None:
    """Delete a run's states and its lock, unless a living process works on it."""
    lock = lock_of(folder)
    with suppress(Timeout), lock.acquire(timeout=0):
        remove(folder, lock)


def remove(folder: Path, lock: FileLock) -> None:
    """Delete a run's states, whose lock is held here, and the lock's file."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)
