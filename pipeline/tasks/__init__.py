"""Tasks: one module each, found by name; importing this package imports nothing heavy."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, did_you_mean, listing

if TYPE_CHECKING:
    from pipeline.tasks.base import Task


def get_task(name: str) -> "Task":
    """Return the task of that name.

    Raises:
        ConfigError: where no module of this package is called so.
    """
    names = sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NO_TASKS
    )
    if name not in names:
        raise ConfigError(
            f"task.name={name}: there is no such task.{did_you_mean(name, names)} "
            f"Valid: {listing(names)}."
        )
    task: Task = import_module(f"{__name__}.{name}").TASK
    return task


_NO_TASKS = {"__init__", "base"}
