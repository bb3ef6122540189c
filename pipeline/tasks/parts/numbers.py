"""Tasks that predict numbers: their scale, loss, scores and predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.common.contract import Direction
from pipeline.common.errors import ModelError
from pipeline.data import Rows
from pipeline.models.batches import inputs_of
from pipeline.tasks.base import Array, Batch, Examples, Outputs
from pipeline.tasks.parts.heads import head_warnings, named_head
from pipeline.tasks.parts.rated import NumberColumns, Rated
from pipeline.tasks.parts.texts import TextTask

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel

    from pipeline.tasks.regression import RegressionConfig

_METRICS: Mapping[str, Direction] = {
    "rmse": "minimize",
    "mae": "minimize",
    "r2": "maximize",
    "pearson": "maximize",
    "spearman": "maximize",
}


class NumberTask(TextTask["RegressionConfig"]):
    """Squared error, or Huber's; numbers are learned in standard deviations from their mean."""

    columns_class = NumberColumns
    shape_class = Rated
    baseline_name = "mean"
    after_encoding = TextTask.after_encoding | {"loss", "huber_delta"}

    @classmethod
    def metrics(cls, config: RegressionConfig) -> Mapping[str, Direction]:
        """Return the loss, errors and correlations; of several columns also of each."""
        del config
        return {"loss": "minimize", **_METRICS, **{f"{k}/": way for k, way in _METRICS.items()}}

    def check(self) -> None:
        """Refuse a model that cannot do the task, and a saved one without the scale of its numbers.

        Raises:
            ModelError: for either.
        """
        super().check()
        every = self.targets.moments.values()
        if not every or not all(
            math.isfinite(sum(of)) and of.low < of.high and of.deviation > 0 for of in every
        ):
            raise ModelError(
                f"model.checkpoint={self.checkpoint.name}: the moments of its numbers are "
                f"{dict(self.targets.moments)}; expected those of each column of data.label."
            )

    def notes(self, examples: Examples) -> list[str]:
        """Return what is odd about examples; also numbers that are all the same."""
        found, numbers = super().notes(examples), examples.rows.columns.get("label", ())
        if len(set(numbers)) == 1:
            found.append(f"every row has the number {numbers[0][0]!r}: correlations and r2 are 0")
        return found

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of numbers, in the order of the model's outputs."""
        return tuple(self.targets.moments)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The columns that metrics name: where there are several."""
        return self.columns if len(self.columns) > 1 else ()

    @property
    def head(self) -> Mapping[str, Any]:
        """A head whose outputs are the numbers."""
        return {**named_head(self.columns), "problem_type": "regression"}

    def warnings(self, rows: Rows) -> list[str]:
        """Return what is odd; also a trained head that is replaced."""
        odd = head_warnings(self, self.columns) if self.head else []
        return [*super().warnings(rows), *odd]

    def encoded(self, labels: Sequence[Any]) -> list[Any]:
        """Return numbers on the scale of the training rows."""
        scaled: list[Any] = ((self._array(labels) - self._origin) / self._unit).tolist()
        return scaled

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return numbers on the scale of training, [examples, columns], and the loss.

        That of an example is the mean over its columns; Huber's is for training alone.
        """
        from torch.nn import functional

        scaled = self.scaled(model, batch)
        if "labels" not in batch:
            return {"scaled": scaled}
        if self.config.loss == "huber" and model.training:
            delta = self.config.huber_delta
            off = functional.huber_loss(scaled, batch["labels"], reduction="none", delta=delta)
        else:
            off = functional.mse_loss(scaled, batch["labels"], reduction="none")
        loss = off.mean(dim=-1)
        return {"scaled": scaled, "loss": loss, "weight": loss.new_ones(len(loss))}

    def scaled(self, model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        """Return numbers on the scale of training, [examples, columns]."""
        logits: torch.Tensor = model(**inputs_of(batch)).logits.float()
        return logits

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score predicted numbers in the unit of the data."""
        return self._scores(self.predicted(examples, outputs), examples.rows)

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score always answering with the mean of training."""
        mean = self._array(train["label"]).mean(axis=0)
        return self._scores(mean[None].repeat(len(rows), axis=0), rows)

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return each row's number; of several columns an object."""
        shape = examples.rows.shape
        assert isinstance(shape, Rated)
        numbers = self.predicted(examples, outputs).tolist()
        return {"prediction": [shape.shown([float(f"{n:.7g}") for n in of]) for of in numbers]}

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the rows with their numbers and predictions."""
        columns, shape = super().predictions(examples, outputs), examples.rows.shape
        assert isinstance(shape, Rated)
        if "label" in columns:
            columns["label"] = [shape.shown(numbers) for numbers in columns["label"]]
        return columns

    def figures(self, examples: Examples, outputs: Outputs) -> dict[str, Figure]:
        """Return predictions over true numbers."""
        from pipeline.evaluation.figures import scatter_figure

        true = self._array(examples.rows["label"])
        figure = scatter_figure(self.predicted(examples, outputs), true, self.columns)
        return {"predictions.png": figure}

    def predicted(self, examples: Examples, outputs: Outputs) -> Array:
        """Return the numbers of each row in the unit of the data, [rows, columns]."""
        numbers: Array = self.by_row(examples, outputs["scaled"]) * self._unit + self._origin
        return numbers

    @property
    def _origin(self) -> Array:
        """The number that is learned as 0, of each column."""
        return self._array([of.mean for of in self.targets.moments.values()])

    @property
    def _unit(self) -> Array:
        """The difference that is learned as 1, of each column."""
        return self._array([of.deviation for of in self.targets.moments.values()])

    def _array(self, numbers: Sequence[Any]) -> Array:
        import numpy as np

        return np.array(numbers, dtype="float64")

    def _scores(self, predicted: Array, rows: Rows) -> dict[str, float]:
        from pipeline.evaluation.numbers import number_scores

        return number_scores(predicted, self._array(rows["label"]), self.columns)
