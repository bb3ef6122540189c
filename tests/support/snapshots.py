"""States of a run that are made, not trained."""

import json
from pathlib import Path

import numpy as np
import torch

from pipeline.tasks.objective import Objective
from pipeline.training.best import Evaluation, Evaluations
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.snapshot import RandomState, Snapshot


def snapshot(step: int, best: int | None = 1) -> Snapshot:
    """Return a state of a run whose best evaluation was at a step."""
    model = torch.nn.Linear(3, 2)
    evaluations = Evaluations(Objective("val/loss", "minimize", "best"), patience=9)
    if best is not None:
        torch.nn.init.constant_(model.weight, best)
        outputs = np.arange(6, dtype=np.float32).reshape(3, 2) / 7
        evaluations.add(Evaluation(best, best / 7, {"loss": 0.1}, outputs), model)
        evaluations.add(Evaluation(step, step / 7, {"loss": 0.2}, outputs[::-1]), model)
    return Snapshot(
        trainer_state=json.dumps({"global_step": step, "max_steps": 99, "log_history": []}),
        weights={"half": torch.rand(2, 3).bfloat16(), "step": torch.tensor(step)},
        optimizer={"state": {0: {"step": torch.tensor(1.0), "buffer": None}}, "betas": (0.9, 0.99)},
        schedule={"last_epoch": step, "lr_lambdas": [{}], "_last_lr": [np.float64(0.1).item()]},
        random=RandomState.take(),
        unlogged=(torch.tensor(0.3), step - 1),
        evaluations=evaluations,
        spent={"evaluation": 0.25},
    )


def write(checkpoints: Checkpoints, *steps: int, best: int | None = 1) -> None:
    for step in steps:
        checkpoints.write(snapshot(step, best))
    checkpoints.wait()


def same(one, other) -> bool:
    """Whether two trees are equal to the last bit, types and dtypes included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dict__"):
        return same(vars(one), vars(other))
    return one == other


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
