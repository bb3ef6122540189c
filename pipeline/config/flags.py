"""Where a config is read: Hydra's ``-cn``, ``-cp`` and ``-cd``, and ``./conf`` without them.

They are kept in the environment, so that a search's workers read the same files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.errors import ConfigError
from pipeline.common.process import environment

CONFIG_NAME = "train"
NAME_VARIABLE, PATH_VARIABLE = "TUNEWRIGHT_CONFIG_NAME", "TUNEWRIGHT_CONFIG_PATH"
_NAME, _PATH, _DIR = "--config-name=", "--config-path=", "--config-dir="


def config_name() -> str:
    """Return the name of the config that is composed."""
    return os.environ.get(NAME_VARIABLE, CONFIG_NAME)


def folders(name: str) -> list[Path]:
    """Return the folders called ``conf`` or ``sweeps``: the user's own first, then the packaged.

    Raises:
        ConfigError: for a folder that the environment names and that is not there.
    """
    here = Path(__file__).parents[1]
    packaged = here / name if (here / name).is_dir() else here.parent / name
    own = _own() if name == "conf" else [Path.cwd() / name]
    return [*(f for f in own if f.is_dir() and f.resolve() != packaged.resolve()), packaged]


def flags() -> list[str]:
    """Return the flags that say where configs are read now, a word each; none as a rule."""
    name, (*first, last) = config_name(), _own()
    return [
        *([f"{_NAME}{name}"] if name != CONFIG_NAME else []),
        *([f"{_PATH}{short(last)}"] if last != _usual() else []),
        *(f"{_DIR}{short(folder)}" for folder in first),
    ]


def short(folder: Path) -> Path:
    """Return a folder as it is typed in the working folder, if it is in there."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags and the overrides of a command line."""
    given = [word for word in words if word.startswith("-")]
    return given, [word for word in words if not word.startswith("-")]


@contextmanager
def reading_by(given: Sequence[str]) -> Iterator[None]:
    """Read configs where flags say, here and in the processes that are started.

    Raises:
        ConfigError: for a folder that is not there.
    """
    names, paths, first = (
        [flag.removeprefix(kind) for flag in given if flag.startswith(kind)]
        for kind in (_NAME, _PATH, _DIR)
    )
    for folder in (*first, *paths):
        if not Path(folder).is_dir():
            raise ConfigError(f"{folder}: there is no such folder of configs.")
    values = {NAME_VARIABLE: names[-1]} if names else {}
    if first or paths:
        found = [Path(folder).absolute() for folder in (*first, *paths)]
        every = dict.fromkeys(found if paths else [*found, *_own()])
        values[PATH_VARIABLE] = os.pathsep.join(map(str, every))
    with environment(values):
        yield


def _usual() -> Path:
    return Path.cwd() / "conf"


def _own() -> list[Path]:
    """Return the user's own folders of configs, in order of precedence."""
    named = [Path(folder) for folder in os.environ.get(PATH_VARIABLE, "").split(os.pathsep)]
    found = [folder.absolute() for folder in named if folder.parts] or [_usual()]
    for folder in found:
        if not folder.is_dir() and folder != _usual():
            raise ConfigError(f"{PATH_VARIABLE}: {folder}: there is no such folder of configs.")
    return found
