"""Tasks: one module each, found by name; importing this package imports nothing heavy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.schema import TaskConfig
    from pipeline.tasks.base import Task


def get_task(config: "TaskConfig") -> "type[Task[Any]]":
    """Return the class of a task: the module of its name says which."""
    task: type[Task[Any]] = import_module(f"{__name__}.{config.name}").TASK
    return task.variant(config)
