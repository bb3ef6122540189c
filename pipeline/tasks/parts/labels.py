"""Tasks that give each row a label, or several: loss, scores and predictions of labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.common.contract import Direction
from pipeline.common.errors import ConfigError, listing
from pipeline.config.types import STRICT, Number, Positive, conflict
from pipeline.models.batches import inputs_of
from pipeline.tasks.base import Array, Batch, Examples, Outputs
from pipeline.tasks.parts.heads import head_warnings, named_head
from pipeline.tasks.parts.labelled import LabelColumns, Labelled
from pipeline.tasks.parts.texts import TextConfig, TextTask

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel

    from pipeline.data import Rows
    from pipeline.data.shapes import Shape

MOST_SHOWN = 50  # most labels whose probabilities are logged for each row


def _weights(value: Any) -> Any:
    numbers = isinstance(value, list | tuple) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < math.inf
        for one in value
    )
    if value not in (None, "balanced") and not (numbers and value):
        raise ValueError("Input should be balanced, or a list of positive numbers, one per label")
    return value


@dataclass(config=STRICT, frozen=True, kw_only=True)
class LabelConfig(TextConfig):
    """What tasks that predict labels share."""

    multi_label: bool  # a row has any number of labels
    # Weight of each label in the loss, in the labels' sorted order; with several per row, where a
    # row has it; balanced: inverse to its frequency, for one label per row.
    class_weights: Annotated[
        Literal["balanced"] | tuple[Positive, ...] | None, BeforeValidator(_weights)
    ]
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)]  # share of the target, spread evenly

    @model_validator(mode="after")
    def _balances_one_label(self) -> LabelConfig:
        if self.multi_label and self.class_weights == "balanced":
            # It would need the number of rows without a label, which the counts do not include.
            raise conflict(
                "task.class_weights=balanced: that is for one label per row, and "
                "task.multi_label=true reads several; expected null or a list of weights, such as "
                "the rows without each label divided by those with it"
            )
        return self


L = TypeVar("L", bound=LabelConfig)


class LabelTask(TextTask[L]):
    """Cross-entropy over the label names; scored on decoded labels."""

    columns_class = LabelColumns
    baseline_name = "majority"
    after_encoding = TextTask.after_encoding | {"class_weights", "label_smoothing"}

    def check(self) -> None:
        """Refuse a model that cannot do the task, and weights that are not one per label.

        Raises:
            ConfigError: for another number of class weights than of labels.
            ModelError: naming models that can.
        """
        super().check()
        given = self.config.class_weights
        if isinstance(given, tuple) and len(given) != len(self.labels):
            raise ConfigError(
                f"task.class_weights={list(given)}: {len(given)} weights; expected "
                f"{len(self.labels)}, one per label, in the order {listing(self.labels)}."
            )

    @classmethod
    def metrics(cls, config: L) -> Mapping[str, Direction]:
        """Return loss, accuracy, and F1, precision and recall, by label and averaged."""
        averages = ("macro", "weighted", "micro") if config.multi_label else ("macro", "weighted")
        names: dict[str, Direction] = {"loss": "minimize", "accuracy": "maximize"}
        for kind in ("f1", "precision", "recall"):
            # With several labels per row the micro average is a separate metric, for F1 only.
            kinds = averages if kind == "f1" else averages[:2]
            names |= dict.fromkeys([*(f"{kind}_{a}" for a in kinds), f"{kind}/"], "maximize")
        return names | ({"hamming_loss": "minimize"} if config.multi_label else {})

    @classmethod
    def shape(cls, config: L, columns: LabelColumns) -> Shape:
        """Return text, second text and label.

        Raises:
            ConfigError: if one label is read from cells, or columns, that hold several.
        """
        if not isinstance(columns.label, str) and not config.multi_label:
            raise ConfigError(
                f"data.label={list(columns.label)}: expected one column, since "
                "task.multi_label=false reads one label per row; set task.multi_label=true "
                "to read one from each column of 0 and 1."
            )
        if columns.label_separator is not None and not config.multi_label:
            raise ConfigError(
                f"data.label_separator={columns.label_separator!r}: expected null, since "
                "task.multi_label=false reads one label per row; set task.multi_label=true "
                "to read several."
            )
        return Labelled(columns, many=config.multi_label)

    def warnings(self, rows: Rows) -> list[str]:
        """Return what is odd; also a trained head that is replaced."""
        odd = head_warnings(self, self.labels) if self.head else []
        return [*super().warnings(rows), *odd]

    @property
    def head(self) -> Mapping[str, Any]:
        """A head whose outputs are named by the labels."""
        kind = "multi" if self.config.multi_label else "single"
        return {**named_head(self.labels), "problem_type": f"{kind}_label_classification"}

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return logits of shape [examples, labels], and the loss if there are labels."""
        logits = self.logits(model, inputs_of(batch))
        targets = batch.get("labels")
        if targets is None:
            return {"logits": logits}
        loss, weight = self._losses(logits, targets, training=model.training)
        return {"logits": logits, "loss": loss, "weight": weight}

    def logits(self, model: PreTrainedModel, inputs: Batch) -> torch.Tensor:
        """Return scores, highest for the predicted label, of shape [examples, labels]."""
        logits: torch.Tensor = model(**inputs).logits.float()
        return logits

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score the labels that the logits predict."""
        return self.scores(self.predicted(examples, outputs), examples.rows["label"])

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score always answering with training's most frequent label, or labels."""
        counts = Counter(train["label"])
        majority = max(sorted(counts), key=lambda label: counts[label])
        return self.scores([majority] * len(rows), rows["label"])

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the prediction and its probability; with several labels per row, each label's."""
        predicted, shares = self.predicted(examples, outputs), self._shares(examples, outputs)
        best = shares if self.config.multi_label else [max(of.values()) for of in shares]
        columns: dict[str, list[Any]] = {"prediction": predicted, "probability": best}
        if "label" in examples.rows.columns:
            pairs = zip(predicted, examples.rows["label"], strict=True)
            columns["correct"] = [a == b for a, b in pairs]
        return columns

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the rows with their predictions, and the probability of each label."""
        columns = super().predictions(examples, outputs)
        if not self.config.multi_label and len(self.labels) <= MOST_SHOWN:
            columns["probabilities"] = self._shares(examples, outputs)
        return columns

    def _shares(self, examples: Examples, outputs: Outputs) -> list[dict[str, float]]:
        """Return each row's probabilities by label, rounded."""
        return [
            {label: round(share, 6) for label, share in zip(self.labels, row, strict=True)}
            for row in self.probabilities(examples, outputs).tolist()
        ]

    def counts(self, examples: Examples, outputs: Outputs) -> dict[str, dict[str, int]]:
        """Return how many rows have each label, and how often each is predicted of them."""
        truth, predicted = examples.rows["label"], self.predicted(examples, outputs)
        if self.config.multi_label:
            found, said = (Counter(chain.from_iterable(of)) for of in (truth, predicted))
            return {name: {"rows": found[name], "predicted": said[name]} for name in self.labels}
        rows, pairs = Counter(truth), Counter(zip(truth, predicted, strict=True))
        shown = self.labels if len(self.labels) <= MOST_SHOWN else ()
        return {
            name: {"rows": rows[name], **{f"predicted {of}": pairs[name, of] for of in shown}}
            for name in self.labels
        }

    def figures(self, examples: Examples, outputs: Outputs) -> dict[str, Figure]:
        """Return the confusion matrix, if a row has one label."""
        if self.config.multi_label:
            return {}
        from pipeline.evaluation.figures import confusion_matrix_figure

        predicted = self.predicted(examples, outputs)
        figure = confusion_matrix_figure(predicted, examples.rows["label"], self.labels)
        return {"confusion_matrix.png": figure}

    def encoded(self, labels: Sequence[Any]) -> list[Any]:
        """Return positions of labels; with several per row, 1.0 where a row has the label."""
        position = {label: i for i, label in enumerate(self.labels)}
        if not self.config.multi_label:
            return [position[label] for label in labels]
        return [[float(name in names) for name in self.labels] for names in labels]

    def _losses(
        self, logits: torch.Tensor, targets: torch.Tensor, *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each example's loss and weight, both of shape [examples]."""
        import torch
        from torch.nn import functional

        smoothing = self.config.label_smoothing if training else 0.0
        weights = logits.new_tensor(self._weights if training else [1.0] * len(self.labels))
        if self.config.multi_label:
            smooth = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
            # A weight counts where the label is present: else rare ones would be predicted rarely.
            each = functional.binary_cross_entropy_with_logits(
                logits, smooth, reduction="none", pos_weight=weights
            )
            return each.mean(dim=-1), torch.ones_like(each[:, 0])
        loss = functional.cross_entropy(
            logits, targets, weights, reduction="none", label_smoothing=smoothing
        )
        return loss, weights[targets]

    @cached_property
    def _weights(self) -> list[float]:
        """The weight of each label in the loss; "balanced" as in scikit-learn."""
        given = self.config.class_weights
        if given is None:
            return [1.0] * len(self.labels)
        if given == "balanced":
            counts = self.targets.counts.values()
            mean = sum(counts) / len(self.labels)
            return [mean / count for count in counts]
        return list(given)

    def probabilities(self, examples: Examples, outputs: Outputs) -> Array:
        """Return probabilities of shape [rows, labels]."""
        from scipy.special import expit, softmax

        logits = self.by_row(examples, outputs["logits"])
        shares: Array = expit(logits) if self.config.multi_label else softmax(logits, axis=-1)
        return shares

    def predicted(self, examples: Examples, outputs: Outputs) -> list[Any]:
        """Return the label of each row, or its labels."""
        logits = self.by_row(examples, outputs["logits"])
        if not self.config.multi_label:
            return [self.labels[i] for i in logits.argmax(axis=-1)]
        named = [zip(self.labels, row, strict=True) for row in logits]
        return [tuple(label for label, logit in row if logit > 0) for row in named]

    def scores(self, predicted: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        """Score predictions of rows by all metrics except the loss."""
        from pipeline.evaluation.metrics import classification_scores, multilabel_scores

        scores = multilabel_scores if self.config.multi_label else classification_scores
        return scores(predicted, labels, self.labels)
