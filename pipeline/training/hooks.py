"""What accompanies training: one hook per concern, which overrides the methods it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.tasks.base import Examples, Outputs
    from pipeline.training.best import Evaluation, Evaluations
    from pipeline.training.snapshot import Snapshot

Infer = Callable[["Examples"], "Outputs"]


class TrainingHook:
    """Is notified as training proceeds, and can end it."""

    def on_start(self, snapshot: Snapshot | None) -> None:
        """Called when training starts, or resumes from a snapshot."""

    def on_step(self) -> None:
        """Called after each step; raises to make the run fail here."""

    def on_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Receive metrics as they arrive, by full name."""

    def more_metrics(
        self,
        examples: Examples,  # noqa: ARG002
        outputs: Outputs,  # noqa: ARG002
        infer: Infer,  # noqa: ARG002
    ) -> dict[str, float]:
        """Return metrics of a split besides the task's own.

        Args:
            examples: of the split.
            outputs: the model's, on them.
            infer: runs the model for further outputs.
        """
        return {}

    def on_evaluation(self, evaluation: Evaluation, so_far: Evaluations) -> bool:  # noqa: ARG002
        """Called after each evaluation but the last; return whether to continue training."""
        return True

    def flush(self) -> Callable[[], None]:
        """Start to store what was received; return a function that waits for it."""
        return lambda: None
