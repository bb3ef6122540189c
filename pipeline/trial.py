"""What a run may know of the search it is part of, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """What a run that is part of a search may ask of it."""

    is_best: Callable[[float], bool]  # whether a score beats every finished trial's


@dataclass(frozen=True)
class Result:
    """What a run found."""

    run_id: str  # its MLflow run
    score: float  # the objective at its best evaluation
    metrics: dict[str, float]  # by full name: val/best/f1_macro, test/accuracy …
    train_seconds: float  # wall time in the training loop, evaluations taken out
    evaluate_seconds: float
