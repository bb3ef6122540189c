"""The machine, and measurements on it: made once, kept in a file, used by all processes."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.common.atomic import remove_leftovers, replacing
from pipeline.common.private import make_file, make_folder
from pipeline.common.session import session

FILE = "machine.json"

log = logging.getLogger(__name__)


def measured(folder: Path, what: Mapping[str, Any], measure: Callable[[], Any]) -> Any:
    """Return what was measured on a machine like this one; measure it where nobody has.

    Others that want the same wait meanwhile, so that they do not disturb what is measured.

    Args:
        folder: where the file is kept; it may be deleted at any time.
        what: all that the value depends on besides the machine.
        measure: returns a plain value.
    """
    return _kept(folder, what, lambda known: measure() if known is None else known)


def best_rate(folder: Path, what: Mapping[str, Any], measure: Callable[[], float]) -> float:
    """Return the best rate that was ever measured on a machine like this one.

    Each process measures once: what was measured while others were busy is too low. The arguments
    are as of `measured`.
    """
    key = folder, json.dumps(what, sort_keys=True)

    def best() -> float:
        return float(_kept(folder, what, lambda known: max(measure(), known or 0.0)))

    return session().kept(key, best)


def _kept(folder: Path, what: Mapping[str, Any], update: Callable[[Any], Any]) -> Any:
    """Put a value into the file that is made of the one there, None where there is none."""
    lock = FileLock(folder / f"{FILE}.lock")
    try:
        make_folder(folder)
        make_file(Path(lock.lock_file))
        locked = lock.acquire()
    except (OSError, NotImplementedError) as error:  # not every file system has locks
        log.warning("%s: measurements cannot be kept there (%s)", folder, error)
        return update(None)
    whole = json.dumps({"cpu": cpu()[0], **what}, sort_keys=True)
    key = hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()
    path = folder / FILE
    with locked:
        every = _read(path)
        before = every.get(key, {}).get("value")
        value = update(before)
        if value != before:
            every[key] = {"of": json.loads(whole), "value": value}
            remove_leftovers(folder, FILE)
            with replacing(path) as made:
                made.write_text(json.dumps(every, indent=1), encoding="utf-8")
        return value


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # what is no JSON is measured again
        return {}
    return known if isinstance(known, dict) else {}


def cpu() -> tuple[str, list[str]]:
    """Return the processor's name and what it can do."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return platform.processor(), []
    lines = (line.partition(":") for line in text.splitlines())
    known: dict[str, str] = {}
    for key, _, value in lines:
        known.setdefault(key.strip(), value.strip())
    flags = known.get("flags") or known.get("Features") or ""
    return known.get("model name", platform.processor()), flags.split()
