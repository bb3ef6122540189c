"""A paused training: all it needs to resume as if it had never stopped, its weights first."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.models.torch_parts import EXTRA

if TYPE_CHECKING:
    from pipeline.training.best import Evaluations


@dataclass(frozen=True)
class RandomState:
    """The state of every random generator that training draws from."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: list[torch.Tensor]

    @classmethod
    def take(cls) -> RandomState:
        """Read the generators."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        numpy = np.random.get_state()
        return cls(random.getstate(), numpy, torch.get_rng_state(), cuda)

    def put_back(self) -> None:
        """Set the generators."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@dataclass(frozen=True)
class Snapshot:
    """A copy in the host's memory, taken between two steps."""

    trainer_state: str  # transformers' TrainerState, as JSON
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    random: RandomState
    unlogged: tuple[torch.Tensor, int]  # loss since the last logged step, and that step
    evaluations: Evaluations  # best and last so far, with the best weights
    spent: dict[str, float]  # seconds of the run so far, by phase
    loss_scale: tuple[float, int] | None = None  # None: of an older version, which had none

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(json.loads(self.trainer_state)["global_step"])

    @property
    def is_last(self) -> bool:
        """Whether nothing is left to train: the run was interrupted after its last step."""
        state = json.loads(self.trainer_state)
        return bool(state["global_step"] >= state["max_steps"] or self.evaluations.exhausted)


def to_host(state: Any) -> Any:
    """Copy a tree of tensors (a state dict) to the host's memory."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: to_host(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(to_host(value) for value in state)
    return copy.deepcopy(state)


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the entries of the state dict that can change: trained parameters, and all buffers.

    They are the model's own tensors, no copies. Tied weights come once for each of their names.
    """
    named = chain(
        (n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad),
        (n for n, _ in model.named_buffers(remove_duplicate=False)),
    )
    kept = set(named)
    return {
        name: value
        for name, value in model.state_dict().items()
        if name in kept or name.endswith(EXTRA)
    }


def load_trained_state(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put back what `trained_state` returned.

    Raises:
        RuntimeError: if the model trains different weights, or of other shapes.
    """
    others = trained_state(model).keys() ^ state.keys()
    if others:
        raise RuntimeError(f"only one of model and state has {min(others)} ({len(others)} in all)")
    model.load_state_dict(state, strict=False)
