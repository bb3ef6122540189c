"""Tasks: one module each, found by name; importing this package imports nothing heavy.

A module holds a config class and the task's class, which it calls ``TASK``; `pipeline.config.task`
finds both by the module's name. What several tasks share is in ``parts``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.task import AnyTaskConfig
    from pipeline.tasks.base import Task


def get_task(config: "AnyTaskConfig") -> "type[Task[Any]]":
    """Return the class of a task, which the module of its name defines."""
    task: type[Task[Any]] = import_module(f"{__name__}.{config.name}").TASK
    return task.variant(config)
