"""A search's command line from a record is untrusted input: it chooses values, and no more.

Hydra composes it, so it could name code to call, config folders and output folders, or have the
environment read; what it is composed into names files like any logged config.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.common.errors import ConfigError
from pipeline.common.text import printable
from pipeline.config.compose import key_of
from pipeline.config.flat import flatten
from pipeline.config.refusals import plain_errors
from pipeline.config.untrusted import check_values, problems

# What a search does with its values. Its other options name code, files or values to search.
_SEARCH = "hydra.sweeper."
SEARCH = frozenset(
    (
        *("sampler", "pruner", "direction", "study_name", "on_change", "n_trials", "n_jobs"),
        *("max_failure_rate", "retries", "trial_minutes", "isolation", "budget", "prices"),
        *("filter", "repeats", "dry_run", "forecast", "confirm"),
    )
)
_GROUPS = ("hydra/sweeper", "hydra/sweeper/sampler", "hydra/sweeper/pruner")


def check_command(overrides: Sequence[str], place: str) -> None:
    """Refuse overrides that do more than choose values; nothing is composed.

    Args:
        overrides: those that neither the user gives nor a signature vouches for.
        place: names the command line in messages.

    Raises:
        ConfigError: naming the override, and how to allow it.
    """
    for override in overrides:
        problem = _problem_of(override)
        if problem is not None:
            key = printable(key_of(override))
            raise ConfigError(
                f"{place}: {printable(override)[:200]} {problem}. If you trust this record, give "
                f"{key}=… yourself."
            )


def check_chosen(
    tree: dict[str, Any], overrides: Sequence[str], allowed: Sequence[Path], place: str
) -> None:
    """Refuse files outside the working folder in the values that overrides chose.

    Args:
        tree: the config that they were composed into.
        overrides: as for `check_command`.
        allowed: folders, besides the working folder, whose files may be read.
        place: names the command line in messages.

    Raises:
        ConfigError: naming the key, what it would access and how to allow it.
    """
    # What a group's option holds is the user's own: it is a file of theirs.
    values = [o for o in overrides if "." in key_of(o) or "{" in o]
    chosen = tuple(f"{key_of(override)}." for override in values)
    others = [key for key in flatten(tree) if not f"{key}.".startswith(chosen)]
    check_values(tree, allowed, others, place)


def _problem_of(override: str) -> str | None:
    """Return what an override would do besides choosing values, or None."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with plain_errors():
        (parsed,) = OverridesParser.create().parse_overrides([override])
    key = parsed.key_or_group
    if parsed.package is not None:
        return "puts a group elsewhere in the config"
    if key.partition("/")[0].partition(".")[0] == "hydra" and not (
        key in _GROUPS or key.removeprefix(_SEARCH).partition(".")[0] in SEARCH
    ):
        return "says how the search is run, which may run code or write files"
    values = list(_values(parsed.value()))
    for value in values:
        if not isinstance(value, str | int | float | list | dict | None):
            return "has no plain value"
        for _, problem in problems(dict.fromkeys(key.split("."), value)):
            return f"is refused: {problem}"
    names = [one for value in values for one in (value if isinstance(value, list) else [value])]
    paths = [name for name in names if isinstance(name, str)]
    if "." not in key and any(p[:1] in ("/", "~") or ".." in p.split("/") for p in paths):
        return "names a file of the config elsewhere"
    return None


def _values(given: Any) -> Iterator[Any]:
    """Yield each value that an override may give its key."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, Sweep

    if isinstance(given, ChoiceSweep):
        for one in given.list:
            yield from _values(one)
    elif isinstance(given, QuotedString):
        yield given.text
    elif isinstance(given, list):
        yield [value for one in given for value in _values(one)]
    elif isinstance(given, dict):
        yield {_text(key): value for key, one in given.items() for value in _values(one)}
    elif not isinstance(given, Sweep | Glob):  # of numbers, or of a group's own options
        yield given


def _text(key: Any) -> str:
    return str(getattr(key, "text", key))
