"""Why a run failed, in one line with the kind of failure first."""

from pipeline.common.errors import DivergedError, TrialTimeoutError, TunewrightError
from pipeline.common.secrets import masked_message


def reason_of(error: BaseException) -> str:
    """Say in one line why a run failed, its kind first.

    The kinds: oom, diverged, timeout, stopped (`sys.exit` or Ctrl-C), refused, error.
    """
    text = masked_message(str(error).strip())
    first_line = text.splitlines()[0] if text else "no message"
    memory = isinstance(error, MemoryError) or any(
        sign in text.lower() for sign in ("out of memory", "can't allocate memory", "alloc_failed")
    )
    if memory:
        return f"oom: {first_line}"
    if isinstance(error, DivergedError):
        return f"diverged: {text}"
    if isinstance(error, TrialTimeoutError):
        return f"timeout: {text}"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return f"stopped: {type(error).__name__} {text}".rstrip()
    if is_interrupted(error):
        return "stopped: KeyboardInterrupt"
    if isinstance(error, TunewrightError):
        return f"refused: {text}"
    return f"error: {type(error).__name__}: {first_line}"


def is_interrupted(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, or what a library made of it: an import may wrap it."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__cause__ or seen.__context__
    return seen is not None
