"""Watches the training loss without synchronising at every step."""

from collections.abc import Sequence

import torch

from pipeline.common.errors import DivergedError, listing


class LossWatch:
    """Collects the losses of the last steps on the device and checks them together.

    Reading a tensor's value makes the host wait for the device, so losses are only collected;
    `check` reads them all at once and still names the exact step and rows at which training
    diverged.
    """

    def __init__(self, row_ids: Sequence[str]) -> None:
        self._row_ids = row_ids
        self._kept: list[tuple[int, torch.Tensor, torch.Tensor]] = []  # step, loss [], rows [batch]

    def keep(self, step: int, loss: torch.Tensor, rows: torch.Tensor) -> None:
        """Keep one step's loss (a scalar) and the positions of its rows."""
        self._kept.append((step, loss.detach(), rows))

    def check(self) -> None:
        """Check the collected steps and clear them.

        Raises:
            DivergedError: at the first loss that is NaN or infinite.
        """
        kept, self._kept = self._kept, []
        if not kept:
            return
        finite = torch.isfinite(torch.stack([loss for _, loss, _ in kept])).tolist()
        for (step, loss, rows), good in zip(kept, finite, strict=True):
            if not good:
                ids = listing((self._row_ids[i] for i in rows.tolist()), most=8)
                remedy = (
                    "No weight has been updated yet, so the model is at fault: check its weights "
                    "and config.json for values that are far too large or negative."
                    if step == 1
                    else "A lower optimizer.learning_rate, more schedule.warmup or a smaller "
                    "training.max_grad_norm may help."
                )
                raise DivergedError(
                    f"step {step}: the training loss is {loss.item()} on the rows {ids}. {remedy}"
                )
