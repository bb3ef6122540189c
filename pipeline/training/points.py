"""When a run is evaluated and its state is saved: steps that follow from the config."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError
from pipeline.config.training import MOST_POINTS

if TYPE_CHECKING:
    from pipeline.config.training import TrainingConfig


def evaluation_points(
    training: TrainingConfig, steps_an_epoch: int, max_steps: int
) -> dict[int, float]:
    """Return the steps at which to evaluate, each with its epoch; the last step is one of them.

    The epochs are the nominal ones (0.25, 0.5 …), so that runs with other batch sizes, whose steps
    cannot fall on exactly these points, are compared at the same epochs.
    """
    within = _points("eval_every", training, steps_an_epoch, max_steps)
    return {**within, max_steps: training.epochs}


def checkpoint_points(training: TrainingConfig, steps_an_epoch: int, max_steps: int) -> set[int]:
    """Return the steps after which to save the state to disk; never the last step."""
    if training.checkpoint_every is None:
        return set()
    return set(_points("checkpoint_every", training, steps_an_epoch, max_steps))


def _points(
    key: str, training: TrainingConfig, steps_an_epoch: int, max_steps: int
) -> dict[int, float]:
    """Return the steps that a key means before the last, each with its epoch."""
    every = getattr(training, key)
    points: dict[int, float] = {}
    if isinstance(every, int):
        steps = range(every, max_steps, every)
        if len(steps) > MOST_POINTS:
            raise ConfigError(
                f"training.{key}={every}: {len(steps):,} times in {max_steps:,} steps; expected at "
                f"most {MOST_POINTS:,}, so at least {math.ceil(max_steps / MOST_POINTS)}."
            )
        points = {step: step / steps_an_epoch for step in steps}
    else:
        if isinstance(every, float):
            times = math.floor(training.epochs / every + 1e-9)
            every = tuple(k * every for k in range(1, times + 1))
        for epoch in sorted(every):
            points.setdefault(math.ceil(epoch * steps_an_epoch - 1e-9), epoch)
    return {step: epoch for step, epoch in points.items() if 0 < step < max_steps}
