"""How long a run is, and when it is evaluated and saved: steps that follow from the config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError
from pipeline.config.training import MOST_POINTS

if TYPE_CHECKING:
    from pipeline.config.training import TrainingConfig


@dataclass(frozen=True)
class Length:
    """How long a run is."""

    steps: int  # of the optimizer
    epochs: float  # passes over the training split
    steps_an_epoch: int

    @classmethod
    def of(cls, training: TrainingConfig, examples: int) -> Length:
        """Return that of a run on a training split of so many examples."""
        an_epoch = math.ceil(examples / training.batch_size)
        if training.max_steps is not None:
            return cls(training.max_steps, training.max_steps / an_epoch, an_epoch)
        return cls(math.ceil(training.epochs * an_epoch), training.epochs, an_epoch)


def evaluation_points(training: TrainingConfig, length: Length) -> dict[int, float]:
    """Return the steps at which to evaluate, each with its epoch; the last step is one of them.

    The epochs are the nominal ones (0.25, 0.5 …), so that runs with other batch sizes, whose steps
    cannot fall on exactly these points, are compared at the same epochs.

    Raises:
        ConfigError: for too many, and for listed epochs after the end.
    """
    every = training.eval_every
    if isinstance(every, tuple) and max(every) > length.epochs > 0:
        raise ConfigError(
            f"training.eval_every={list(every)}: {max(every)} is after the end; expected epochs up "
            f"to {length.epochs}, which training.max_steps={training.max_steps} takes."
        )
    return {**_points("eval_every", training, length), length.steps: length.epochs}


def checkpoint_points(training: TrainingConfig, length: Length) -> set[int]:
    """Return the steps after which to save the state to disk; never the last step.

    Raises:
        ConfigError: for too many.
    """
    if training.checkpoint_every is None:
        return set()
    return set(_points("checkpoint_every", training, length))


def _points(key: str, training: TrainingConfig, length: Length) -> dict[int, float]:
    """Return the steps that a key means before the last, each with its epoch."""
    every = getattr(training, key)
    points: dict[int, float] = {}
    if isinstance(every, int):
        steps = range(every, length.steps, every)
        _check_few(key, every, len(steps), length)
        points = {step: step / length.steps_an_epoch for step in steps}
    else:
        if isinstance(every, float):
            times = math.floor(length.epochs / every + 1e-9)
            _check_few(key, every, times, length)
            every = tuple(k * every for k in range(1, times + 1))
        for epoch in sorted(every):
            points.setdefault(math.ceil(epoch * length.steps_an_epoch - 1e-9), epoch)
    return {step: epoch for step, epoch in points.items() if 0 < step < length.steps}


def _check_few(key: str, every: float, times: int, length: Length) -> None:
    if times > MOST_POINTS:
        in_steps = isinstance(every, int)
        least = math.ceil(length.steps / MOST_POINTS) if in_steps else length.epochs / MOST_POINTS
        raise ConfigError(
            f"training.{key}={every}: {times:,} times in {length.steps:,} steps; expected at most "
            f"{MOST_POINTS:,}, so at least {least}."
        )
