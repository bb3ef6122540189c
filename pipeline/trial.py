"""What a run may know of the search it is part of, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """One run's place in a search."""

    study: str
    number: int
    parent_run_id: str  # the study's MLflow run
    is_best: Callable[[float], bool]  # whether a score beats every finished trial's


@dataclass(frozen=True)
class Result:
    """What a run found."""

    run_id: str  # its MLflow run
    score: float  # the objective at its best evaluation
    metrics: dict[str, float]  # by full name: val/best/f1_macro, test/accuracy …
    train_seconds: float  # wall time in the training loop, evaluations taken out
    evaluate_seconds: float
