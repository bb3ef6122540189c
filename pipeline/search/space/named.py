"""Named sweeps: one YAML under ``sweeps/`` each, turned into a command line for Hydra."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.text import cut
from pipeline.config.compose import choice, key_of, literal
from pipeline.config.explain import first
from pipeline.config.menu import choices
from pipeline.config.own_files import naming, read_mapping
from pipeline.config.types import Count


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class NamedSweep:
    """What a file in ``sweeps/`` may hold."""

    about: str  # one line for people
    # key: values in Hydra's grammar, or a list; stages have their own
    space: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    sampler: str | dict[str, Any] = "auto"  # a name, or a name with options
    pruner: str | dict[str, Any] = "none"  # likewise
    n_trials: Count | None = None  # null: every point of a grid, 20 otherwise
    settings: dict[str, Any] | None = None  # what else the sweep fixes: key: value
    when: dict[str, dict[str, Any]] | None = None  # key=choice: what is searched only there
    zip: list[dict[str, list[Any]]] | None = None  # lists whose values go together
    filter: str | None = None  # an expression that a point must not make false
    # Points to begin with, or history: those that former studies recommend.
    first: str | dict[str, Any] | list[str | dict[str, Any]] | None = None
    warm_start: str | list[str] | None = None  # earlier studies to learn from
    stages: list[dict[str, Any]] | None = None  # searches in turn: see `StageOptions`


MOST_CHOICES = 1_000
_SPACE_OPTIONS = ("when", "zip", "filter", "first", "warm_start")  # hydra.sweeper has them too


@contextmanager
def command_of(name: str, given: list[str]) -> Iterator[list[str]]:
    """Yield a named sweep's command line; a refusal of what the file says in here names the file.

    Args:
        name: the sweep's.
        given: the user's overrides.
    """
    path = file_of(name)
    overrides = as_overrides(_read(path), given)
    text, keys = path.read_text(encoding="utf-8"), {key_of(override) for override in given}

    def said_in(key: str) -> Path | None:
        last = re.split(r"[./]", key)[-1] if key.startswith("hydra") else key
        is_said = re.search(rf"(?<![\w.]){re.escape(last)}[\"']?\s*[:=]", text)
        return path if key not in keys and is_said else None

    with naming(said_in):
        yield overrides


def load_sweep(name: str) -> NamedSweep:
    """Read a named sweep; the user's own ``./sweeps`` come before the packaged ones.

    Raises:
        ConfigError: for an unknown name, or a file that is no sweep.
    """
    return _read(file_of(name))


def file_of(name: str) -> Path:
    """Return the file of a named sweep.

    Raises:
        ConfigError: for an unknown name.
    """
    found = choices("sweeps")
    if name not in found:
        raise ConfigError(
            f"sweep {name}: there is no such file in sweeps/.{did_you_mean(name, found)} "
            f"Valid: {listing(found)}."
        )
    return found[name]


def _read(path: Path) -> NamedSweep:
    try:
        sweep: NamedSweep = TypeAdapter(NamedSweep).validate_python(read_mapping(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(first(error))}") from error
    if (sweep.space is None) == (sweep.stages is None):
        raise ConfigError(f"{path}: expected space, or stages that have one each: one of the two.")
    return sweep


def _explain(found: Any) -> str:
    key = str(found["loc"][0])
    valid = list(NamedSweep.__dataclass_fields__)
    if found["type"] == "unexpected_keyword_argument":
        near = did_you_mean(key, valid)
        return f"{key} is not a key of a sweep.{near} Valid: {listing(valid)}."
    if found["type"] == "missing":
        return f"{key} must be given. Valid: {listing(valid)}."
    if found["type"] == "too_short":
        return f"{key}: found nothing to search; expected keys with values, as seed: [1, 2]."
    return f"{key}={cut(repr(found['input']))}: {found['msg'].removeprefix('Input ')}."


def as_overrides(sweep: NamedSweep, given: list[str]) -> list[str]:
    """Return the command line of a sweep; what the user gives replaces what the sweep says."""
    own: dict[str, str] = {key: literal(value) for key, value in (sweep.settings or {}).items()}
    own |= _group("sampler", sweep.sampler, "auto") | _group("pruner", sweep.pruner, "none")
    if sweep.n_trials is not None:
        own["hydra.sweeper.n_trials"] = str(sweep.n_trials)
    keys = {key_of(override) for override in given}
    for option in _SPACE_OPTIONS:
        value = getattr(sweep, option)
        if value is not None:
            own[f"hydra.sweeper.{option}"] = _nested(value)
    if sweep.stages is not None:
        stages = sweep.stages
        if "hydra.sweeper.n_trials" in keys:  # which is that of each
            stages = [{k: v for k, v in one.items() if k != "n_trials"} for one in stages]
        own["hydra.sweeper.stages"] = _nested(stages)
    own |= {key: space_text(key, value) for key, value in (sweep.space or {}).items()}

    for group in ("sampler", "pruner"):
        if f"hydra/sweeper/{group}" in keys:  # another one has other options
            own = {k: v for k, v in own.items() if not k.startswith(f"++hydra.sweeper.{group}.")}
    kept = [f"{key}={value}" for key, value in own.items() if key.lstrip("+~") not in keys]
    return [*kept, *given]


def _group(group: str, given: str | dict[str, Any], default: str) -> dict[str, str]:
    """Return the overrides of a sampler or pruner: a name, or a name with options."""
    options = dict(given) if isinstance(given, dict) else {"name": given}
    own = {f"hydra/sweeper/{group}": str(options.pop("name", default))}
    return own | {f"++hydra.sweeper.{group}.{k}": literal(v) for k, v in options.items()}


def check_few(key: str, values: Sequence[Any]) -> None:
    """Refuse a choice of more values than a search can check.

    Raises:
        ConfigError: naming how many there are.
    """
    if len(values) > MOST_CHOICES:
        raise ConfigError(
            f"{key}: {len(values):,} values, each of which is checked before the search; expected "
            f"at most {MOST_CHOICES:,}, or numbers as range(…) or interval(…)."
        )


def space_text(key: str, value: Any) -> str:
    """Return what a YAML file says of a searched key in the grammar: a list means a choice."""
    if isinstance(value, list):
        check_few(key, value)  # before the grammar reads them, which takes long
        return choice(value)
    return value if isinstance(value, str) else literal(value)


def _nested(value: Any) -> str:
    """Return an option's value in the grammar; unlike an override's own key, its keys are texts."""
    if isinstance(value, dict):
        pairs = (f"{_escaped(str(key))}:{_nested(item)}" for key, item in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_nested, value))}]"
    return literal(value)


def _escaped(key: str) -> str:
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", key)
