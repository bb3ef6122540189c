"""What a task is to the pipeline: the shape of its examples, predictions and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.evaluation.names import Direction, metric_name

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.data import Rows
    from pipeline.models import Checkpoint

__all__ = ["Direction", "Examples", "Task", "metric_name"]


@dataclass(frozen=True)
class Examples:
    """A split, encoded.

    ``dataset`` holds token ids, ``labels`` and ``row``, the row's position in ``rows``;
    ``truncated`` counts the texts that were longer than the model was allowed to see.
    """

    rows: "Rows"
    dataset: "Dataset"
    truncated: int

    @cached_property
    def by_length(self) -> list[int]:
        """The rows' positions, shortest first: batches in this order have less padding."""
        lengths = [len(ids) for ids in self.dataset["input_ids"][:]]
        return sorted(range(len(lengths)), key=lengths.__getitem__)


class Task(Protocol):
    """One kind of supervised problem. `pipeline.tasks.classification` is the example to follow."""

    # Metrics by name, without the split, and the direction in which each gets better. A name that
    # ends in "/" stands for one metric a label: "f1/" for "f1/positive".
    metrics: Mapping[str, Direction]

    def encode(
        self,
        rows: "Rows",
        labels: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> Examples:
        """Turn rows into token ids and targets."""

    def load_model(self, checkpoint: "Checkpoint", labels: Sequence[str]) -> "PreTrainedModel":
        """Load the checkpoint with the head this task needs, in float32."""

    def score(
        self, examples: Examples, outputs: "np.ndarray[Any, Any]", labels: Sequence[str]
    ) -> dict[str, float]:
        """Score the model's raw outputs, one a row, by all metrics but the loss."""

    def baseline(self, train: "Rows", rows: "Rows", labels: Sequence[str]) -> dict[str, float]:
        """Score the best answer that needs no model, by the same metrics."""

    def predictions(
        self, examples: Examples, outputs: "np.ndarray[Any, Any]", labels: Sequence[str]
    ) -> dict[str, list[Any]]:
        """Return the predictions as a table, column by column, with the rows' ids."""

    def figures(
        self, examples: Examples, outputs: "np.ndarray[Any, Any]", labels: Sequence[str]
    ) -> dict[str, "Figure"]:
        """Return pictures of the result by file name."""
