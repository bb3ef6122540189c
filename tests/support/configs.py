"""Groups of the config as conf/ has them, with what a test changes."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import TypeAdapter

from pipeline.config.data import FilesConfig
from pipeline.config.flags import folders
from pipeline.config.model import ModelConfig
from pipeline.config.task import AnyTaskConfig, columns_class, config_class, split_columns
from pipeline.config.training import TrainingConfig
from pipeline.tasks.parts.writing import GenerationConfig


def model_of(checkpoint: str | Path | None, **changes: Any) -> ModelConfig:
    """Return the config of a model by its checkpoint."""
    checkpoint = str(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    return _made(ModelConfig, "model/hub", checkpoint=checkpoint, **changes)


def task_settings(name: str, **changes: Any) -> Any:
    """Return the config of a task."""
    cls: type[AnyTaskConfig] = config_class(name)
    return TypeAdapter(cls).validate_python({**_of_task(name)[0], **changes})


def generation(**changes: Any) -> GenerationConfig:
    """Return how texts are written."""
    return GenerationConfig(**{**_group("task/chat")["generation"], **changes})


def training(**changes: Any) -> TrainingConfig:
    """Return the config of the loop."""
    return _made(TrainingConfig, "training/default", **changes)


def columns_for(task: str, **changes: Any) -> Any:
    """Return the columns of a task, as conf/data/base.yaml or the task's own file has them."""
    own, _ = split_columns({**_group("data/base"), **_of_task(task)[1]}, task)
    return columns_class(task)(**{**own, **changes})


def files(task: str = "classification", **changes: Any) -> FilesConfig:
    """Return the config of rows from files, with the columns of a task."""
    _, source = split_columns({**_group("data/base"), **_group("data/files")}, task)
    given, others = split_columns(changes, task)
    made = {**source, "columns": columns_for(task, **given), **others}
    made.pop("defaults")
    return TypeAdapter(FilesConfig).validate_python(made)


def _made(cls: type, *names: str, **changes: Any) -> Any:
    given = {key: value for name in names for key, value in _group(name).items()}
    given = {k: v for k, v in {**given, **changes}.items() if k not in ("defaults", "architecture")}
    return TypeAdapter(cls).validate_python(given)


def _of_task(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a task's file says of the task, and of its columns."""
    tree = _group(f"task/{name}")
    return tree.get("task", tree), tree.get("data", {})


@lru_cache
def _group(name: str) -> dict[str, Any]:
    tree = OmegaConf.to_container(OmegaConf.load(folders("conf")[-1] / f"{name}.yaml"))
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}
