"""The training group: how long, in what batches, how often it is judged, how it is computed."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from pipeline.config.types import (
    STRICT,
    BatchRows,
    Count,
    Few,
    NonNegative,
    Number,
    Threads,
    Tokens,
    conflict,
    is_steps,
)

MOST_POINTS = 100_000  # of a run, at which it is evaluated or its state saved


@dataclass(config=STRICT, frozen=True)
class TrainingConfig:
    """The loop: how long, in what batches, how often it is judged."""

    # Passes over the training split; 0, without max_steps: the model is judged as it is.
    epochs: Annotated[Number, Field(ge=0, le=10_000)]
    max_steps: Count | None  # optimizer steps instead of epochs; null: as many as epochs take
    batch_size: BatchRows  # rows whose mean gradient makes one optimizer step
    max_length: Annotated[Tokens, Field(ge=4)]  # longer texts are cut and counted
    max_grad_norm: NonNegative  # gradient clipping; 0: none
    # A whole number is steps between evaluations; with a point: epochs; a list: at these epochs.
    # The end is always evaluated.
    eval_every: Count | float | tuple[float, ...]
    logging_steps: Count  # steps between points of train/loss
    early_stopping_patience: Count | None  # evaluations without a better objective; null: never
    # Of the matrix products (autocast); weights stay float32. auto: bfloat16 where the machine
    # multiplies it natively and the model is wide enough to gain; a run logs which.
    # float16, with a scaled loss, is for GPUs without bfloat16.
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    # Tokens, padding included, that are computed at once: a batch is split by length to stay within
    # them, and its gradient stays the same; null: a batch is not split.
    micro_batch_tokens: Annotated[Count, Field(le=2**24)] | None
    active_vocabulary: bool  # leave out embeddings that the data cannot reach; exact
    unpadding: bool  # layers compute no padding, on a CPU, if the model supports it
    frozen_layer_cache: bool  # compute frozen layers once for all trials; exact
    threads: Threads | None  # of torch; null: as many as the process may use; logged
    deterministic: bool  # only algorithms that repeat to the bit, where they exist
    # Between checkpoints, to resume from after a crash: written as eval_every; null: none.
    checkpoint_every: Count | float | None
    checkpoint_seconds: NonNegative  # least training time since the last one
    keep_checkpoints: Few  # states to resume from, each with the best weights so far

    @field_validator("eval_every", mode="before")
    @classmethod
    def _unambiguous(cls, value: Any) -> Any:
        epochs = value if isinstance(value, list | tuple) else [value]
        are_epochs = all(isinstance(e, float) and 0 < e < math.inf for e in epochs)
        if not is_steps(value) and not (epochs and are_epochs):
            raise ValueError(
                "Input should be a whole number of steps (50), a number of epochs written with a "
                "point (0.25, 1.0), or a list of epochs ([0.25, 1.0])"
            )
        return tuple(value) if isinstance(value, list) else value

    @field_validator("checkpoint_every", mode="before")
    @classmethod
    def _steps_or_epochs(cls, value: Any) -> Any:
        are_epochs = isinstance(value, float) and 0 < value < math.inf
        if value is not None and not is_steps(value) and not are_epochs:
            raise ValueError(
                "Input should be a whole number of steps (50), a number of epochs written with a "
                "point (0.25, 1.0), or null"
            )
        return value

    @model_validator(mode="after")
    def _points_are_few(self) -> "TrainingConfig":
        if self.max_steps is not None:
            return self
        least = self.epochs / MOST_POINTS
        for key in ("eval_every", "checkpoint_every"):
            every = getattr(self, key)
            if isinstance(every, float) and every < least:
                raise conflict(
                    f"training.{key}={every}: too often for training.epochs={self.epochs}; "
                    f"expected at least {least}"
                )
        return self

    @model_validator(mode="after")
    def _evaluates_within(self) -> "TrainingConfig":
        if self.max_steps is not None or not isinstance(self.eval_every, tuple):
            return self
        if max(self.eval_every) > self.epochs > 0:
            raise conflict(
                f"training.eval_every={list(self.eval_every)}: {max(self.eval_every)} is after the "
                f"end; expected epochs up to training.epochs={self.epochs}"
            )
        return self
