"""Regression: a number, or several, for each text or pair of texts."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from pipeline.config.types import STRICT, Positive, conflict
from pipeline.tasks.base import Task
from pipeline.tasks.parts.numbers import NumberTask
from pipeline.tasks.parts.texts import TextConfig


@dataclass(config=STRICT, frozen=True, kw_only=True)
class RegressionConfig(TextConfig):
    """A number, or several, for each text or pair of texts."""

    name: Literal["regression"]
    # head: a new layer over the model; embedding: the cosine between the embeddings of two texts.
    approach: Literal["head", "embedding"]
    loss: Literal["mse", "huber"]
    huber_delta: Positive  # where it turns from square to linear, in standard deviations

    @model_validator(mode="after")
    def _reads_both_alike(self) -> RegressionConfig:
        if self.approach == "embedding" and self.long_rows == "window":
            raise conflict(
                "task.long_rows=window: task.approach=embedding reads each text once; expected "
                "truncate, drop or error"
            )
        return self


class Regression(NumberTask):
    """The numbers are those of a new head over the model."""

    config_class = RegressionConfig
    auto_class = "AutoModelForSequenceClassification"

    @property
    def is_ready(self) -> bool:
        """False: a trained head's numbers are on the scale of other training rows."""
        return False

    @classmethod
    def variant(cls, config: RegressionConfig) -> type[Task[RegressionConfig]]:
        """Return the class of the approach: this one, or that of embeddings."""
        if config.approach == "embedding":
            from pipeline.tasks.parts.similarity import Similarity

            return Similarity
        return cls


TASK = Regression
