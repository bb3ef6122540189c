"""The evaluations of a run: which was best, and the weights it was made with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pipeline.common.errors import DivergedError
from pipeline.tasks.objective import Objective
from pipeline.training.snapshot import load_trained_state, trained_state

if TYPE_CHECKING:
    from pipeline.tasks.base import Outputs


@dataclass(frozen=True)
class Evaluation:
    """One look at the validation split."""

    step: int  # optimizer steps done
    epoch: float
    metrics: dict[str, float]  # without the split's name
    outputs: Outputs  # of the model, by name; the first axis is that of the examples
    is_early: bool = False  # on a sample of the rows

    @property
    def split(self) -> str:
        """What its metrics are of, as they are logged."""
        return "early" if self.is_early else "val"

    @property
    def named(self) -> dict[str, float]:
        """Its metrics by their full names."""
        return {f"{self.split}/{name}": value for name, value in self.metrics.items()}

    @property
    def digest(self) -> str:
        """A digest of the outputs, to the last bit."""
        digest = hashlib.blake2b(digest_size=8)
        for name, array in sorted(self.outputs.items()):
            digest.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


@dataclass(eq=False)
class Evaluations:
    """Remembers the best and the last evaluation, and the best weights.

    Early ones, on a sample of the rows, are compared only with each other; the first evaluation on
    all rows discards them.

    The weights are kept in the host's memory, not on disk: one copy, overwritten in place when a
    better evaluation comes. Only trained weights are stored.
    """

    objective: Objective
    patience: int | None
    since_best: int = 0  # evaluations since the best one
    history: list[dict[str, float]] = field(default_factory=list)  # the metrics of each
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    best: Evaluation | None = None
    last: Evaluation | None = None
    early: int = 0  # how many were on a sample; absent from older states

    def add(self, evaluation: Evaluation, model: torch.nn.Module) -> None:
        """Add a new evaluation; of two equal ones the earlier counts as better.

        If the objective takes the last evaluations, the last one's weights are kept.

        Raises:
            DivergedError: if the objective is NaN or infinite.
        """
        score = evaluation.metrics[self.objective.name]
        if not math.isfinite(score):
            raise DivergedError(f"step {evaluation.step}: {self.objective.metric} is {score}.")
        if evaluation.is_early:
            self.early += 1
        elif self.last is not None and self.last.is_early:
            self.history.clear()
        sign = 1 if self.objective.direction == "maximize" else -1
        so_far = (metrics[self.objective.name] for metrics in self.history)
        better = all(sign * score > sign * than for than in so_far)
        self.since_best = 0 if better else self.since_best + 1
        self.history.append(evaluation.metrics)
        self.last = evaluation
        if better or self.objective.aggregation != "best":
            self.best = evaluation
            self._copy(model)

    @property
    def full(self) -> int:
        """How many were on all rows."""
        is_early = self.last is None or self.last.is_early
        return 0 if is_early else len(self.history)

    def score(self, objective: Objective) -> float:
        """Make one score of all evaluations so far."""
        return objective.score([metrics[objective.name] for metrics in self.history])

    @property
    def exhausted(self) -> bool:
        """Whether the last ``patience`` evaluations were all no better than one before."""
        return self.patience is not None and self.since_best >= self.patience

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best weights back into the model."""
        load_trained_state(model, self.weights)

    def export(self) -> dict[str, Any]:
        """Return all but the weights as plain values and arrays."""
        inner = {name: vars(self)[name] for name in ("objective", "best", "last")}
        state = {**vars(self), **{name: one and vars(one) for name, one in inner.items()}}
        del state["weights"]
        return state

    @classmethod
    def from_export(cls, state: Mapping[str, Any], weights: dict[str, torch.Tensor]) -> Evaluations:
        """Rebuild what `export` returned; it takes over the weights."""
        seen = {name: state[name] and Evaluation(**state[name]) for name in ("best", "last")}
        objective = Objective(**state["objective"])
        return cls(**{**state, **seen, "objective": objective, "weights": weights})

    def _copy(self, model: torch.nn.Module) -> None:
        for name, weight in trained_state(model).items():
            if name in self.weights:
                self.weights[name].copy_(weight)
            else:
                self.weights[name] = weight.detach().to("cpu", copy=True)
