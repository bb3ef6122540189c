"""Data and model as a task wants them: step two of a run, and what it is made of.

What is made here is kept in the process by the settings that it depends on, so that the trials of
a sweep share it.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.config import DataConfig, Experiment, ModelConfig, TaskConfig
from pipeline.tasks import get_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.data import Splits
    from pipeline.tasks.base import Examples, Task


@dataclass(frozen=True)
class Encoded:
    """Encoded splits; ``test`` is None where it is not asked for."""

    splits: Splits
    train: Examples
    validation: Examples
    test: Examples | None
    task: Task[Any]  # that encoded them

    @cached_property
    def baseline(self) -> dict[str, float]:
        """The scores of the answer that needs no model, on the split that a run is judged by."""
        judged = self.validation if self.test is None else self.test
        return self.task.baseline(self.train.rows, judged.rows)


@dataclass(frozen=True)
class Prepared:
    """What a run trains on and is judged by, and its task with all settings."""

    encoded: Encoded
    task: Task[Any]

    @property
    def examples(self) -> dict[str, Examples]:
        """The splits that there are."""
        found = self.encoded
        every = {"train": found.train, "validation": found.validation, "test": found.test}
        return {name: examples for name, examples in every.items() if examples is not None}

    @property
    def warnings(self) -> list[str]:
        """What is odd about the rows."""
        splits = self.encoded.splits
        notes = [f"{name}: {n}" for name, split in self.examples.items() for n in split.notes]
        return [*splits.warnings, *self.task.warnings(splits.train), *notes]


def prepare(experiment: Experiment) -> Prepared:
    """Load, check, split and encode the data.

    Raises:
        DataError: for rows that cannot be read, labelled, split or learned from.
        ModelError: for a checkpoint that is not there.
    """
    encoded = _encoded(
        experiment.data,
        experiment.model,
        _read_by_encoding(experiment.task),
        experiment.training.max_length,
        with_test=experiment.evaluation.test,
    )
    return Prepared(encoded, task_of(experiment))


def splits_of(experiment: Experiment) -> Splits:
    """Load, check and split the rows.

    Raises:
        DataError: for rows that cannot be read, labelled or split.
    """
    from pipeline.data import load_splits

    shape = get_task(experiment.task).shape(experiment.task, experiment.data)
    return load_splits(shape, with_test=experiment.evaluation.test)


def task_of(experiment: Experiment) -> Task[Any]:
    """Return the task on these data, for this model.

    Raises:
        DataError: for rows that cannot be read, labelled or split.
        ModelError: for a checkpoint that is not there.
    """
    from pipeline.models import find_checkpoint

    checkpoint, length = find_checkpoint(experiment.model), experiment.training.max_length
    counts = splits_of(experiment).label_counts
    return get_task(experiment.task)(experiment.task, checkpoint, length, counts)


def load_model(experiment: Experiment, task: Task[Any]) -> PreTrainedModel:
    """Load the model for a task, with the adapter that the config asks for.

    Raises:
        ConfigError: for an adapter that this model cannot have.
        ModelError: for weights that cannot be read.
    """
    from pipeline.models.adapters import adapt, load_options, new_head

    model = task.load_model(**load_options(experiment.adapter))
    return adapt(model, experiment.adapter, new_head(model))


def check_model(experiment: Experiment, task: Task[Any]) -> None:
    """Refuse an adapter that this model cannot have, before its weights are read.

    Raises:
        ConfigError: for the adapter.
        ModelError: for a model that cannot be made.
    """
    from pipeline.models.adapters import adapt, check_adapter, new_head

    check_adapter(experiment.adapter)
    if experiment.adapter.name not in ("none", "qlora"):  # which only bitsandbytes can make
        outline = task.outline()
        adapt(outline, experiment.adapter, new_head(outline))


@lru_cache(maxsize=2)
def _encoded(
    data: DataConfig, model: ModelConfig, task: TaskConfig, max_length: int, *, with_test: bool
) -> Encoded:
    from pipeline.data import load_splits
    from pipeline.models import find_checkpoint

    kind = get_task(task)
    splits = load_splits(kind.shape(task, data), with_test=with_test)
    made = kind(task, find_checkpoint(model), max_length, splits.label_counts)
    return Encoded(
        splits=splits,
        train=made.encode(splits.train, training=True),
        validation=made.encode(splits.validation),
        test=made.encode(splits.test) if splits.test is not None else None,
        task=made,
    )


def _read_by_encoding(task: TaskConfig) -> TaskConfig:
    """Return a task's settings with those at their defaults that no token depends on."""
    apart = get_task(task).after_encoding
    defaults = {
        field.name: field.default
        for field in fields(task)
        if field.name in apart and field.default is not MISSING
    }
    return replace(task, **defaults)
