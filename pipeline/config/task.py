"""The task group: what all tasks share, and the config class of the task that is named.

A task's config class lies beside it, in the module of its name in `pipeline.tasks`, which is looked
up by name: this room does not know those above it, nor keeps a list of them.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PlainValidator, TypeAdapter
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.common.errors import did_you_mean, listing
from pipeline.common.languages import code
from pipeline.config.types import COMBINATION, STRICT, Text

_PACKAGE = "pipeline.tasks"


LongRows = Literal["truncate", "drop", "error"]
LongTexts = Literal["truncate", "window", "drop", "error"]  # window: overlapping parts, each read


@dataclass(config=STRICT, frozen=True, kw_only=True)
class AnyTaskConfig:
    """What the model learns to do; a task's own class makes ``name`` a literal, and adds to it."""

    name: str
    objective: Text  # the metric that judges a run unless evaluation.objective says otherwise
    # Rows longer than training.max_length: cut, left out of training, or refused, and counted.
    long_rows: LongTexts
    # Of the answers, ISO 639-1: how metrics cut texts into words (zh, ja, ko: characters).
    language: Annotated[str, AfterValidator(code)]


def config_class(name: Any) -> type[AnyTaskConfig]:
    """Return the config class of a task, by the task's name.

    Raises:
        PydanticCustomError: for a name that no task has.
    """
    is_name = isinstance(name, str) and name.isidentifier()
    task = _task(name) if is_name and find_spec(f"{_PACKAGE}.{name}") else None
    if task is None:
        valid = task_names()
        raise PydanticCustomError(
            COMBINATION,
            "task.name={name}: there is no such task.{hint} Valid: {valid}",
            {"name": name, "hint": did_you_mean(str(name), valid), "valid": listing(valid)},
        )
    found: type[AnyTaskConfig] = task.config_class
    return found


def task_names() -> list[str]:
    """Return the names of all tasks: of the modules of `pipeline.tasks` that have one."""
    found = iter_modules(import_module(_PACKAGE).__path__)
    return sorted(one.name for one in found if not one.ispkg and _task(one.name) is not None)


def _task(name: str) -> Any:
    """Return the task in a module; None where the module has none."""
    return getattr(import_module(f"{_PACKAGE}.{name}"), "TASK", None)


def _of_its_class(value: Any) -> AnyTaskConfig:
    """Check the settings of a task against the class of their name."""
    if isinstance(value, AnyTaskConfig):
        return value
    name = value.get("name") if isinstance(value, Mapping) else None
    config: AnyTaskConfig = TypeAdapter(config_class(name)).validate_python(value)
    return config


TaskConfig = Annotated[AnyTaskConfig, PlainValidator(_of_its_class)]
