"""The evaluations of a run: which was best, and the weights it was made with."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import DivergedError
from pipeline.tasks.base import Direction

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """One look at the validation split."""

    step: int  # optimizer steps done
    epoch: float
    metrics: dict[str, float]  # without the split's name
    outputs: "np.ndarray[Any, Any]"  # raw outputs, one a row


class Evaluations:
    """Remembers the best and the last evaluation, and the best weights.

    The weights are kept in the host's memory, not on disk: one copy, overwritten when a better
    evaluation comes.
    """

    def __init__(self, metric: str, direction: Direction, patience: int | None) -> None:
        self.metric = metric
        self._sign = 1.0 if direction == "maximize" else -1.0
        self._patience = patience
        self._since_best = 0
        self._weights: dict[str, torch.Tensor] = {}
        self.best: Evaluation | None = None
        self.last: Evaluation | None = None

    def add(self, evaluation: Evaluation, model: torch.nn.Module) -> None:
        """Take in a new evaluation; of two equal ones the earlier is the better.

        Raises:
            DivergedError: where the objective is NaN or infinite.
        """
        score = evaluation.metrics[self.metric]
        if not math.isfinite(score):
            raise DivergedError(f"step {evaluation.step}: val/{self.metric} is {score}.")
        self.last = evaluation
        self._since_best += 1
        if self.best is None or self._sign * score > self._sign * self.best.metrics[self.metric]:
            self.best = evaluation
            self._since_best = 0
            self._copy(model)

    @property
    def exhausted(self) -> bool:
        """Whether the last ``patience`` evaluations were all no better than one before."""
        return self._patience is not None and self._since_best >= self._patience

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best weights back into the model."""
        model.load_state_dict(self._weights)

    def _copy(self, model: torch.nn.Module) -> None:
        for name, weight in model.state_dict().items():
            if name in self._weights:
                self._weights[name].copy_(weight)
            else:
                self._weights[name] = weight.detach().to("cpu", copy=True)
