"""Overrides as Python has them: texts in Hydra's grammar, or keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any, TypeAlias

STAGES = "hydra.sweeper.stages"
Overrides: TypeAlias = Sequence[str] | Mapping[str, Any]


def as_texts(overrides: Overrides) -> list[str]:
    """Return overrides as the command line has them; a value is quoted where that is needed.

    >>> as_texts({"model": "minilm", "data.train": "my reviews.csv", "training.epochs": 2})
    ['model=minilm', "data.train='my reviews.csv'", 'training.epochs=2']
    """
    from pipeline.config.compose import literal

    if isinstance(overrides, str):
        return [overrides]
    if isinstance(overrides, Mapping):
        return [f"{key}={literal(_plain(value))}" for key, value in overrides.items()]
    return list(overrides)


@contextmanager
def search_of(space: str | Overrides, overrides: Overrides) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the command line of a search; a refusal in here names the sweep's file.

    Args:
        space: the name of a file in ``sweeps/``; or keys and their values as such a file has them:
            a list to choose from, or a text in the grammar; ``hydra.sweeper.stages`` with a list
            of them; or overrides.
        overrides: what else is set; of a key in both, a file gives way, and other spaces do not.
    """
    from pipeline.search.space.named import command_of, space_text

    given = as_texts(overrides)
    if isinstance(space, str) and "=" not in space:
        with command_of(space, given) as command:
            yield space, command
        return
    if isinstance(space, Mapping):
        stages = {key: value for key, value in space.items() if key == STAGES}
        keys = {key: _plain(value) for key, value in space.items() if key not in stages}
        searched = [*(f"{k}={space_text(k, v)}" for k, v in keys.items()), *as_texts(stages)]
    else:
        searched = as_texts(space)
    yield "sweep", [*given, *searched]


def _plain(value: Any) -> Any:
    """Return a value as YAML would have it."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value  # a number of NumPy's
