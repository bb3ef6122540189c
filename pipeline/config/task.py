"""The task group: what all tasks share, and the config classes of the task that is named.

The classes of a task's settings and columns lie beside it, in the module of its name in
`pipeline.tasks`, which is looked up by name: this room does not know those above it, nor keeps a
list of them.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass

from pipeline.common.languages import code
from pipeline.config.by_name import ByName
from pipeline.config.types import STRICT, Text, conflict

_TASKS = ByName("task", "pipeline.tasks", "TASK")

LongRows = Literal["truncate", "drop", "error"]
LongTexts = Literal["truncate", "window", "drop", "error"]  # window: overlapping parts, each read


@dataclass(config=STRICT, frozen=True, kw_only=True)
class AnyTaskConfig:
    """What the model learns to do; a task's own class makes ``name`` a literal, and adds to it."""

    name: str
    objective: Text  # the metric that judges a run unless evaluation.objective says otherwise
    # Rows longer than training.max_length: cut, left out of training, or refused, and counted.
    long_rows: LongTexts
    # Of the answers, ISO 639-1: how metrics split texts into words (zh, ja, ko: characters).
    language: Annotated[str, AfterValidator(code)]


@dataclass(config=STRICT, frozen=True, kw_only=True)
class AnyColumns:
    """The columns that a task reads of a record; a task's own class has them, as keys of data."""

    not_columns: ClassVar[frozenset[str]] = frozenset()  # keys that say how columns are read

    @model_validator(mode="after")
    def _differ(self) -> "AnyColumns":
        key_of: dict[str, str] = {}
        for key in (field.name for field in fields(self) if field.name not in self.not_columns):
            given = getattr(self, key)
            for column in given if isinstance(given, tuple) else [given] if given else []:
                if column in key_of:
                    raise conflict(
                        f"data.{key_of[column]} and data.{key} both name the column {column!r}; "
                        "expected different ones"
                    )
                key_of[column] = key
        return self


def config_class(name: Any) -> type[AnyTaskConfig]:
    """Return the config class of a task, by the task's name.

    Raises:
        PydanticCustomError: for a name that no task has.
    """
    found: type[AnyTaskConfig] = _TASKS.find(name).config_class
    return found


def columns_class(name: str) -> type[AnyColumns]:
    """Return the class of a task's columns, by the task's name."""
    found: type[AnyColumns] = _TASKS.find(name).columns_class
    return found


def split_columns(given: Mapping[Any, Any], task: str) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return what of a data group are columns of a task, and what no task has.

    A data set knows no task, so it may give the columns of all; those of others are left out.
    """
    own = {field.name for field in fields(columns_class(task))}
    known = {field.name for name in task_names() for field in fields(columns_class(name))}
    columns = {key: value for key, value in given.items() if key in own}
    return columns, {key: value for key, value in given.items() if key not in known}


def task_names() -> list[str]:
    """Return the names of all tasks: of the modules of `pipeline.tasks` that define one."""
    return _TASKS.names()


def _of_its_class(value: Any) -> AnyTaskConfig:
    """Check the settings of a task against the class of their name."""
    if isinstance(value, AnyTaskConfig):
        return value
    name = value.get("name") if isinstance(value, Mapping) else None
    config: AnyTaskConfig = TypeAdapter(config_class(name)).validate_python(value)
    return config


TaskConfig = Annotated[AnyTaskConfig, PlainValidator(_of_its_class)]


def _of_the_task(value: Any, info: ValidationInfo) -> Any:
    """Check columns against the class of the task that was read before them."""
    task = info.data.get("task")
    if task is None or isinstance(value, AnyColumns):
        return value  # without a task all is refused anyway
    if isinstance(value, Mapping):
        columns, unknown = split_columns(value, task.name)
        value = columns | unknown
    return TypeAdapter(columns_class(task.name)).validate_python(value)


Columns = Annotated[AnyColumns, PlainValidator(_of_the_task)]
