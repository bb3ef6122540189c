"""The errors a person can act on, and why a run failed, in one line.

Every other error is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher

from pipeline.common.secrets import masked_message

_DISK_SAID_BY = ("sqlite3", "sqlalchemy", "mlflow", "safetensors_rust", "safetensors")
AGAIN = "give the command again"
RESUMES = "give the same command again: it resumes"
NEAR = 0.6  # likeness from which a name may be a slip for another


class TunewrightError(Exception):
    """Something the user can fix: one paragraph with place, found and expected; exit code 2."""

    exit_code = 2
    kind = "refused"  # first word of the reason why a run failed


class ConfigError(TunewrightError):
    """A wrong key, type, bound, name or search space."""


class DataError(TunewrightError):
    """A data file, row, label or split that cannot be trained on."""


class ModelError(TunewrightError):
    """A checkpoint that is not there or cannot do the task."""


class TrackingError(TunewrightError):
    """An MLflow store or study file that cannot be read or written."""


class DivergedError(TunewrightError):
    """Training diverged to NaN or infinity; names the step and the rows."""

    kind = "diverged"


class TrialTimeoutError(TunewrightError):
    """A trial had its time and was not done."""

    kind = "timeout"


class TrialStoppedError(TunewrightError):
    """A user ended a trial, which counts as pruned."""


class DiskError(TunewrightError):
    """A disk that is full or cannot be written, or a database on it that is damaged."""


class OutOfMemoryError(TunewrightError):
    """A process that got no more memory, on the host or an accelerator."""


class Stopped(KeyboardInterrupt):
    """A command was stopped at work; the text says how to resume it, or is empty."""


class SearchStopped(Stopped):
    """A user ended a search from elsewhere, its running trials included."""


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """Say how to resume what is stopped in here; nothing where it cannot be."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(how) from stop


@dataclass(frozen=True)
class _DiskFault:
    """What a disk may come to in mid-run, and the signs of it."""

    what: str
    remedy: str
    numbers: tuple[int, ...]
    words: tuple[str, ...]


_DISK_FAULTS = (
    _DiskFault(
        "a disk is full",
        "Free some space",
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        ("no space left on device", "disk is full", "disk quota exceeded"),
    ),
    _DiskFault(
        "a disk cannot be written",
        "Make it writable",
        (errno.EROFS,),
        ("read-only file system", "write a readonly database", "unable to open database file"),
    ),
    _DiskFault(
        "a database was damaged or emptied",
        "Put back a copy of it",
        (),
        ("no such table", "file is not a database", "database disk image is malformed"),
    ),
    _DiskFault(
        "a disk fails",
        "Look at the system's log",
        (errno.EIO,),
        ("disk i/o error",),
    ),
)


@contextmanager
def machine_faults_named(then: str) -> Iterator[None]:
    """Turn errors of disks, databases and memory into one paragraph that says what to do.

    Args:
        then: what to do once that is repaired.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, TunewrightError):
            raise
        found = next(filter(None, map(_disk_fault, causes(error))), None)
        if found is not None:
            fault, why = found
            raise DiskError(f"{fault.what}: {why}. {fault.remedy}, then {then}.") from error
        short = next(filter(is_out_of_memory, causes(error)), None)
        if short is None:
            raise
        why = str(short).strip().partition("\n")[0] or type(short).__name__
        raise OutOfMemoryError(
            f"out of memory: {why}. Free some memory, or need less: training.micro_batch_tokens "
            "bounds what a step takes; training.max_length or a smaller model help, too."
        ) from error


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put a place before the message of an error in data, a model or a store."""
    try:
        yield
    except (DataError, ModelError, TrackingError) as error:
        raise type(error)(f"{place}: {error}") from error


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `` Did you mean …?`` for the nearest valid name, or nothing when none is near."""
    likeness = {other: _likeness(name, other) for other in valid}
    near = max(likeness, key=lambda other: likeness[other], default="")
    if likeness.get(near, 0) < NEAR:
        return ""
    return f" Did you mean {visible(near)}?"


def did_you_mean_key(key: str, valid: Iterable[str]) -> str:
    """Return `` Did you mean …?`` for the nearest dotted key, or nothing when none is near.

    The last part has to be near. So has the group, unless none was given or the last part is right.
    """
    group, _, last = key.rpartition(".")
    found = {}
    for other in valid:
        other_group, _, other_last = other.rpartition(".")
        tail, place = _likeness(last, other_last), _likeness(group, other_group)
        if tail >= NEAR and (place >= NEAR or not group or tail == 1):
            found[other] = tail + place
    return f" Did you mean {visible(max(found, key=found.__getitem__))}?" if found else ""


def visible(name: str) -> str:
    """Return a name for a message: in quotes if it has blanks at an end, or what is not seen."""
    return name if name == name.strip() and name.isprintable() else repr(name)


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def amount(count: int, what: str) -> str:
    """Return a number of things: ``1 row``, ``2 rows``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def listing(names: Iterable[str], most: int = 12) -> str:
    """Join names for a message, shortened where there are many."""
    every = [str(n) for n in names]
    more = f", … ({len(every)} in all)" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def quoted(names: Iterable[str]) -> str:
    """Join names that a file has, so that their blanks are seen; long ones are cut."""
    return listing(repr(name) if len(name) < 80 else f"{name[:77]!r}…" for name in map(str, names))


def reason_of(error: BaseException) -> str:
    """Say in one line why a run failed, its kind first.

    The kinds: oom, diverged, timeout, killed (with its search), stopped (`sys.exit` or Ctrl-C),
    refused, error; and those of a provider's service, see `pipeline.providers.service`.
    """
    text = masked_message(str(error).strip())
    first_line = text.splitlines()[0] if text else "no message"
    if is_out_of_memory(error):
        return f"oom: {first_line}"
    if isinstance(error, SearchStopped):
        return f"killed: {text}"
    if isinstance(error, SystemExit):
        return f"stopped: SystemExit {text}".rstrip()
    if is_interrupted(error):
        said = text if isinstance(error, KeyboardInterrupt) else ""
        return f"stopped: {said or 'interrupted'}"
    if isinstance(error, TunewrightError):
        return f"{error.kind}: {text}"
    return f"error: {type(error).__name__}: {first_line}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of a host or an accelerator without memory left."""
    signs = (
        *("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed"),
        *("bad_alloc", "failed to map segment", "can't start new thread"),
    )
    said = str(error).strip().lower()
    is_onednn = said == "could not create a primitive"  # more words: one for an unsupported type
    return isinstance(error, MemoryError) or is_onednn or any(sign in said for sign in signs)


def is_interrupted(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, or what a library made of it: an import may wrap it."""
    return any(isinstance(one, KeyboardInterrupt) for one in causes(error))


def is_disk_fault(error: BaseException) -> bool:
    """Whether an error is that of a disk that takes nothing, or what a library made of it."""
    return any(map(_disk_fault, causes(error)))


def is_explained(error: BaseException) -> bool:
    """Whether an error says what a person can do: it needs no traceback."""
    return isinstance(error, TunewrightError) or is_disk_fault(error)


def _disk_fault(error: BaseException) -> tuple[_DiskFault, str] | None:
    """Return what a disk has come to and who says so; other causes are not looked at."""
    number = error.errno if isinstance(error, OSError) else None
    is_said = type(error).__module__.partition(".")[0] in _DISK_SAID_BY
    lines = [line.strip() for line in str(error).splitlines()] if is_said else []
    for fault in _DISK_FAULTS:
        if isinstance(error, DiskError) and str(error).startswith(fault.what):
            return fault, str(error)
        if number in fault.numbers:
            return fault, str(error)
        for line in lines:
            if any(sign in line.lower() for sign in fault.words):
                return fault, line
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what caused it, what caused that, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
