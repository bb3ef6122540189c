"""Data and model as a task needs them: step two of a run, and its parts.

Results are cached in the process by the settings that they depend on, so that the trials of a sweep
share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.session import shared
from pipeline.common.timing import booked
from pipeline.config.data import DataConfig
from pipeline.config.experiment import Experiment
from pipeline.config.model import ModelConfig
from pipeline.config.provider import named_model
from pipeline.config.task import AnyTaskConfig
from pipeline.models.batches import reachable_ids
from pipeline.tasks import get_task
from pipeline.tasks.encoded_cache import EncodedStore, encoding_key

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from transformers import PreTrainedModel

    from pipeline.data import Rows, Splits
    from pipeline.data.shapes import Shape
    from pipeline.tasks.base import Examples, Task


@dataclass
class Encoded:
    """Splits, and their examples once they are read."""

    splits: Splits
    task: Task[Any]  # that encodes them
    store: EncodedStore
    examples: dict[str, Examples] = field(default_factory=dict)  # by split; test only if it is read
    is_kept: bool = False

    def read(self, *, keep: bool) -> None:
        """Encode the splits that are not on disk, and write them there if they are to be kept.

        Raises:
            DataError: for rows that cannot be learned from.
        """
        if not self.examples or (keep and not self.is_kept):
            rows = self.splits.by_name
            self.examples = {name: self._examples(name, rows[name], keep=keep) for name in rows}
            self.is_kept = keep

    def _examples(self, name: str, rows: Rows, *, keep: bool) -> Examples:
        training, made = name == "train", self.examples.get(name)

        def make() -> Examples:
            return made or self.task.encode(rows, training=training)

        key = encoding_key(self.task, rows, training=training)
        return make() if key is None else self.store.get(key, rows, make, keep=keep)

    def token_ids(self, more: Sequence[Dataset] = ()) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the token ids that any batch of the splits, or of further data, can have."""
        import numpy as np

        others = reachable_ids(more, self.task.checkpoint.tokenizer)
        return np.union1d(self._own_token_ids, others)

    @cached_property
    def _own_token_ids(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        splits = [split.dataset for split in self.examples.values()]
        return reachable_ids(splits, self.task.checkpoint.tokenizer)

    @cached_property
    def baseline(self) -> dict[str, float]:
        """The baseline's scores (its answer needs no model) on the split that judges a run."""
        judged = self.examples.get("test", self.examples["validation"])
        return self.task.baseline(self.examples["train"].rows, judged.rows)


@dataclass(frozen=True)
class Prepared:
    """What a run trains on and is judged by, and its task with all settings."""

    encoded: Encoded
    task: Task[Any]

    @property
    def examples(self) -> dict[str, Examples]:
        """The splits that exist, by name."""
        return self.encoded.examples

    @property
    def warnings(self) -> list[str]:
        """What is odd about the rows."""
        splits = self.encoded.splits
        notes = [
            f"{name}: {n}" for name, split in self.examples.items() for n in self.task.notes(split)
        ]
        return [*splits.warnings, *self.task.warnings(splits.train), *notes]


@booked("data")
def prepare(experiment: Experiment, *, keep: bool = False) -> Prepared:
    """Load, check, split and encode the data.

    Args:
        experiment: whose store has the encoded data of earlier runs.
        keep: whether this run's are written there; not before a run may be recorded.

    Raises:
        DataError: for rows that cannot be read, labelled, split or learned from.
        ModelError: for a missing checkpoint.
    """
    encoded = _encoded(
        experiment.data,
        experiment.model,
        _AsRead(experiment.task),
        experiment.training.max_length,
        EncodedStore(cache_of(experiment) / "encoded"),
        with_test=experiment.evaluation.test,
    )
    encoded.read(keep=keep)
    task = task_of(experiment)
    return Prepared(encoded, task)


def shape_of(experiment: Experiment) -> Shape:
    """Return what the task reads of a record."""
    return get_task(experiment.task).shape(experiment.task, experiment.data.columns)


def splits_of(experiment: Experiment) -> Splits:
    """Load, check and split the rows.

    Raises:
        DataError: for rows that cannot be read, labelled or split.
    """
    from pipeline.data import load_splits

    shape = shape_of(experiment)
    return load_splits(experiment.data, shape, with_test=experiment.evaluation.test)


def early_examples(experiment: Experiment, validation: Examples) -> Examples | None:
    """Return what evaluations before the last one score of a split; None: all of it."""
    positions = early_positions(experiment, validation.rows)
    return None if positions is None else validation.of_rows(positions)


def early_positions(experiment: Experiment, validation: Rows) -> list[int] | None:
    """Return which rows of a split are scored before the end; None: all of them.

    Raises:
        DataError: if they are fewer than there are labels.
    """
    from pipeline.data.splits import sample

    most = experiment.evaluation.early_rows
    if most is None or most >= len(validation):
        return None
    seed = experiment.data.split_seed
    return sample(validation, most, seed, "validation", "evaluation.early_rows")


def task_of(experiment: Experiment) -> Task[Any]:
    """Return the task on these data, for this model.

    Raises:
        DataError: for rows that cannot be read, labelled or split.
        ModelError: for a missing checkpoint.
    """
    from pipeline.models import find_checkpoint

    checkpoint, length = find_checkpoint(experiment.model), experiment.training.max_length
    targets = splits_of(experiment).targets
    return get_task(experiment.task)(experiment.task, checkpoint, length, targets)


@booked("model")
def load_model(experiment: Experiment, task: Task[Any], seed: int | None = None) -> PreTrainedModel:
    """Load the model for a task, with the adapter of the config.

    The seed is of the new head's weights and all later draws; None: generators stay as they are.

    Raises:
        ConfigError: for an adapter that this model cannot have.
        ModelError: for weights that cannot be read.
    """
    import transformers

    from pipeline.models.adapters import adapt, load_options, new_head
    from pipeline.models.frozen import quiet

    if seed is not None:
        transformers.set_seed(seed)

    model = task.load_model(**load_options(experiment.adapter))
    adapted = adapt(model, experiment.adapter, new_head(model))
    task.begin(adapted)
    # Without the cache, frozen layers keep their dropout.
    is_frozen = (
        experiment.adapter.name in ("head", "freeze") and experiment.training.frozen_layer_cache
    )
    return quiet(adapted) if is_frozen else adapted


def inputs(experiment: Experiment) -> dict[str, Any]:
    """Return what a run reads, by content: its rows and files as ``data``, and its ``model``.

    Of a service's model the name alone is known.

    Raises:
        TunewrightError: as `prepare` does.
    """
    from pipeline.models.digests import model_digests

    model = named_model(experiment.provider) or model_digests(task_of(experiment).checkpoint)
    return {"data": data_inputs(experiment), "model": model}


def data_inputs(experiment: Experiment) -> dict[str, Any]:
    """Return which rows a run reads, by content; raises as `prepare` does."""
    from pipeline.data.hub import folder_of

    data = experiment.data
    splits = splits_of(experiment)
    rows = {k: {"rows": len(v), "digest": v.digest} for k, v in splits.by_name.items()}
    is_folder = data.source == "hub" and folder_of(data)
    source = "folder" if is_folder else data.source
    return {"name": data.title, "source": source, "splits": rows, "files": splits.files}


def cache_of(experiment: Experiment) -> Path:
    """Return the folder of what is cached for later runs; it may be deleted at any time."""
    return Path(experiment.tracking.dir).absolute() / "cache"


def check_model(experiment: Experiment, task: Task[Any]) -> None:
    """Refuse a model that cannot be built or whose weights are others, and a wrong adapter.

    Raises:
        ConfigError: for the adapter.
        ModelError: for a model that cannot be built.
    """
    from pipeline.models.adapters import adapt, check_adapter, new_head

    check_adapter(experiment.adapter)
    if experiment.adapter.name != "qlora":  # which is read in other ways
        task.outline()
        task.check_weights()
    if experiment.adapter.name not in ("none", "qlora"):  # which only bitsandbytes can create
        outline = task.outline()
        adapt(outline, experiment.adapter, new_head(outline))


@shared(maxsize=2)
def _encoded(
    data: DataConfig,
    model: ModelConfig,
    as_read: _AsRead,
    max_length: int,
    store: EncodedStore,
    *,
    with_test: bool,
) -> Encoded:
    from pipeline.data import load_splits
    from pipeline.models import find_checkpoint

    task = as_read.config
    kind = get_task(task)
    splits = load_splits(data, kind.shape(task, data.columns), with_test=with_test)
    made = kind(task, find_checkpoint(model), max_length, splits.targets)
    return Encoded(splits, made, store)


@dataclass(frozen=True, eq=False)
class _AsRead:
    """A task's settings; equal if they produce the same tokens."""

    config: AnyTaskConfig

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _AsRead) and self._settings == other._settings

    def __hash__(self) -> int:
        return hash(self._settings)

    @property
    def _settings(self) -> tuple[Any, ...]:
        apart = get_task(self.config).after_encoding
        names = (setting.name for setting in fields(self.config) if setting.name not in apart)
        return type(self.config), *((name, getattr(self.config, name)) for name in names)
