"""The user's own YAML files: what is wrong in one is refused with its name."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.common.errors import ConfigError


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys with values, interpolations as they are written.

    Raises:
        ConfigError: naming the file, and the line where that is known.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError, YAMLError

    try:
        config = OmegaConf.load(path)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: {error.problem}.") from error
    except (YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"{path}: not YAML: {reason}") from error
    if not isinstance(config, DictConfig) or not config:
        found = "nothing" if isinstance(config, DictConfig) else "a list"
        raise ConfigError(f"{path}: found {found}; expected keys with their values.")
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in plain.items()}


@contextmanager
def naming(file_of: Callable[[str], Path | None]) -> Iterator[None]:
    """Name the file of the key that a refusal begins with.

    Args:
        file_of: tells it, or None where the key is not of a file.
    """
    try:
        yield
    except ConfigError as error:
        found = re.match(r"[\w./-]+", str(error))
        file = file_of(found[0].rstrip(".")) if found else None
        if file is None:
            raise
        raise ConfigError(f"{file}: {error}") from error
