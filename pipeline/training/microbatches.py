"""How a batch is split into micro-batches: by length, within a budget of tokens.

The batch is what the hyperparameters say; its gradient is the sum of its micro-batches'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.models.batches import cut, length
from pipeline.tasks.base import Batch, Task


@dataclass
class MicroBatches:
    """Makes the micro-batches of a run's batches."""

    task: Task[Any]  # pads them
    most: int | None  # tokens of one, padding included; None: a batch is computed at once
    call: int  # the fixed cost of one, in tokens

    def make(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, list[Batch]]:
        """Cut a batch of encoded examples, as Trainer's data collator."""
        lengths = [self.task.sequences * length(e) for e in examples]
        parts = cut(lengths, self.most, self.call)
        batches = [self.task.collate([examples[i] for i in part]) for part in parts]
        return {"micro_batches": batches}

    @property
    def metrics(self) -> dict[str, float]:
        """The budget, by the name of a metric."""
        return {"train/micro_batch_tokens": float(self.most or math.inf)}

    def halve(self, batch: Sequence[Batch]) -> list[Batch]:
        """Split a batch that ran out of memory further, and those that follow it.

        Raises:
            OutOfMemoryError: if each micro-batch is already a single example.
        """
        sizes = [len(part["row"]) for part in batch]
        if max(sizes) == 1:
            raise torch.OutOfMemoryError(
                "out of memory at one example of "
                f"{max(map(_width, batch))} tokens: a lower "
                "training.max_length, an adapter or a smaller model may help."
            )
        tokens = self.task.sequences * max(len(part["row"]) * _width(part) for part in batch)
        # Batches prepared in advance may be as large, with the budget already halved.
        self.most = max(1, min(self.most or tokens, tokens // 2))
        return [
            {name: value[some] for name, value in part.items()}
            for part, size in zip(batch, sizes, strict=True)
            for some in (slice(0, -(-size // 2)), slice(-(-size // 2), size))
            if some.start < some.stop
        ]


def _width(batch: Batch) -> int:
    """Return the tokens of its widest column."""
    return max(value.shape[1] for name, value in batch.items() if name.endswith("input_ids"))
