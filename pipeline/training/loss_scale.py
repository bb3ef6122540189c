"""Scaling of the loss in float16, so that small gradients do not vanish and large ones are noticed.

Micikevicius et al. (2018), with the constants of `torch.amp.GradScaler`, which owns the optimizer's
step; here Trainer does.
"""

from __future__ import annotations

import torch

from pipeline.common.errors import ConfigError, DivergedError
from pipeline.training.speed import device_here

FIRST, LEAST = 2.0**16, 2.0**-14
GROWS_AFTER = 2000  # steps without overflow


def check_precision(precision: str) -> None:
    """Refuse float16 where no GPU computes in it.

    Raises:
        ConfigError: on a machine without one.
    """
    if precision == "float16" and device_here().type == "cpu":
        raise ConfigError(
            "training.precision=float16: needs a GPU, and this machine has none; expected "
            "bfloat16, float32 or auto."
        )


class LossScale:
    """The factor of the loss before its gradients are computed; 1 in other precisions."""

    def __init__(self, precision: str) -> None:
        self._is_on = precision == "float16"
        self.value = FIRST if self._is_on else 1.0
        self._steps = 0  # without overflow

    @property
    def state(self) -> tuple[float, int]:
        """What `resume` takes."""
        return self.value, self._steps

    def resume(self, state: tuple[float, int]) -> None:
        """Scale as when the state was taken."""
        self.value, self._steps = state

    def allows(self, norm: torch.Tensor) -> bool:
        """Whether to take a step whose gradients have this norm; adapt the scale to it.

        Raises:
            DivergedError: where gradients overflow at any scale.
        """
        if not self._is_on:
            return True
        if torch.isfinite(norm):
            self._steps += 1
            if self._steps == GROWS_AFTER:
                self.value, self._steps = 2 * self.value, 0
            return True
        self.value, self._steps = self.value / 2, 0
        if self.value < LEAST:
            raise DivergedError(
                "gradients overflow in float16 at every scale of the loss. Use a lower "
                "optimizer.learning_rate, or training.precision=bfloat16 or float32."
            )
        return False
