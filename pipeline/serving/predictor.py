"""Predictions of a saved model, from its folder alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.common.contract import Precision
from pipeline.common.errors import DataError, ModelError, listing
from pipeline.data import Rows
from pipeline.models import Checkpoint
from pipeline.models.checkpoint import open_checkpoint
from pipeline.models.faults import said
from pipeline.models.source import WEIGHTS, Source
from pipeline.serving.description import read
from pipeline.tasks import get_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.data.shapes import Shape
    from pipeline.tasks.base import Examples, Outputs, Task

ADAPTER_FOLDER = "adapter"  # in a model's folder: the adapter alone, not merged

_LOADED = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Interface:
    """What a model is asked and what it answers, by an example of each."""

    record: Mapping[str, Any]  # by the columns of the user's file
    prediction: Mapping[str, Any]


@dataclass(frozen=True)
class SavedCheckpoint(Checkpoint):
    """A folder whose weights are whole: nothing of them is drawn, and none are kept in memory."""

    @override
    def load(self, auto_class: Any, **kwargs: Any) -> PreTrainedModel:
        """Load the weights in float32.

        Raises:
            ModelError: where some are missing, or cannot be read.
        """
        import torch

        with self._source.reading(*WEIGHTS, why=_unloaded):
            model, found = auto_class.from_pretrained(
                self.location,
                trust_remote_code=False,
                use_safetensors=True,
                weights_only=True,  # an index of safetensors can name other files
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                **kwargs,
            )
        if missing := sorted(found["missing_keys"]):
            named = f"{listing(missing, most=4)}; expected all of {type(model).__name__}"
            raise self._source.fault(f"the weights lack {named}", *WEIGHTS)
        whole: PreTrainedModel = self._with_padding(model)
        return whole

    @property
    @override
    def _source(self) -> Source:
        return _source_of(self.name)


@dataclass(frozen=True)
class Predictor:
    """A model, and what it takes to ask it about records."""

    task: Task[Any]  # with settings for prediction
    shape: Shape
    model: PreTrainedModel  # on any device
    precision: Precision  # of the matrix products

    @classmethod
    def load(cls, folder: Path, *, base: PreTrainedModel | None = None) -> Predictor:
        """Load a model from its folder: onto a GPU where there is one, in float32.

        No code of the folder is run, and nothing but safetensors is read of weights.

        Args:
            folder: as `pipeline.serving.saved.save` made it.
            base: the model that training began with; then the adapter in the folder is put over
                it, and the folder's own weights are not read.

        Raises:
            ModelError: for a folder that is no such model, or is not whole.
        """
        import torch

        from pipeline.models.adapters import load_adapter

        description = read(folder)
        kind = get_task(description.task)
        # Anew, since a description from somebody else could name a file.
        config = kind.for_prediction(description.task)
        task = kind(config, _checkpoint(folder), description.max_length, description.targets)
        task.check()
        model = load_adapter(base, folder / ADAPTER_FOLDER) if base else task.load_model()
        if torch.cuda.is_available() and model.device.type == "cpu":
            model = model.to("cuda")
        shape = kind.shape(config, description.columns)
        is_slow = description.precision == "float16" and model.device.type == "cpu"
        return cls(task, shape, model, "float32" if is_slow else description.precision)

    def predict(
        self,
        records: Sequence[Mapping[str, Any]],
        places: Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> list[dict[str, Any]]:
        """Return a prediction a record; targets in records are not read, what is long is cut.

        Args:
            records: as a file of the user has them, or with the columns of `inputs` alone.
            places: where each is from, for messages.
            batch_size: examples at once; it has a part in the last bits only, and in what is drawn
                where texts are sampled.

        Raises:
            DataError: naming the place of a record that cannot be read.
        """
        if not records:
            return []
        names = places or [f"record {number}" for number in range(1, len(records) + 1)]
        read_rows = [
            self.shape.read(record, place, with_targets=False)
            for record, place in zip(records, names, strict=True)
        ]
        first = read_rows[0].keys()
        for row, place in zip(read_rows, names, strict=True):
            if other := row.keys() ^ first:
                own = next(column for column, name in self.shape.inputs.items() if name in other)
                has = "has" if other <= row.keys() else "lacks"
                raise DataError(
                    f"{place}: it {has} the column {own!r}, unlike the first record; expected the "
                    "same columns in all."
                )
        columns = {name: [row[name] for row in read_rows] for name in first}
        rows = Rows(self.shape, list(names), columns)
        examples, outputs = self.infer(rows, batch_size, self.precision)
        decoded = self.task.decode(examples, outputs)
        plain = {
            name: [list(value) if isinstance(value, tuple) else value for value in values]
            for name, values in decoded.items()
        }
        return [dict(zip(plain, line, strict=True)) for line in zip(*plain.values(), strict=True)]

    def infer(
        self, rows: Rows, batch_size: int, precision: Precision = "float32"
    ) -> tuple[Examples, Outputs]:
        """Encode rows and run the model over them."""
        examples = self.task.encode(rows)
        return examples, self.task.infer(self.model, examples, batch_size, precision=precision)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read of a record."""
        return tuple(self.shape.inputs)


def _checkpoint(folder: Path) -> SavedCheckpoint:
    if not any((folder / name).is_file() for name in _LOADED):
        raise ModelError(f"{folder}: no weights: expected {' or '.join(_LOADED)}.")
    return SavedCheckpoint(**vars(open_checkpoint(_source_of(str(folder)))))


def _source_of(folder: str) -> Source:
    remedy = "Expected what a run of tunewright keeps: copy the whole folder from there again."
    return Source("", folder, os.path.abspath(folder), remedy)


def _unloaded(error: Exception) -> str:
    return f"the weights cannot be loaded: {said(error)}"
