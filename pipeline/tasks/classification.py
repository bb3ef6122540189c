"""Classification: one label, or several, for each text or pair of texts."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from pipeline.config.types import STRICT, Text, conflict
from pipeline.tasks.base import Task
from pipeline.tasks.parts.labels import LabelConfig, LabelTask


@dataclass(config=STRICT, frozen=True, kw_only=True)
class ClassificationConfig(LabelConfig):
    """One label, or several, for each text or pair of texts."""

    name: Literal["classification"]
    # head: a new layer over the model; generative: the probability of the label's name as the
    # model's next words after the prompt, of a decoder or encoder-decoder.
    approach: Literal["head", "generative"]
    prompt: Text  # for the generative approach; also {text_pair} and {labels}

    @model_validator(mode="after")
    def _can_be_prompted(self) -> ClassificationConfig:
        if self.approach == "generative":
            if "{text}" not in self.prompt:
                raise conflict(
                    f"task.prompt={self.prompt!r}: expected a template with {{text}} in it"
                )
            if self.multi_label:
                raise conflict(
                    "task.multi_label=true: task.approach=generative answers with one label; "
                    "expected task.approach=head"
                )
        return self


class Classification(LabelTask[ClassificationConfig]):
    """The labels are those of a new head over the model."""

    config_class = ClassificationConfig
    auto_class = "AutoModelForSequenceClassification"  # with a new head

    @classmethod
    def variant(cls, config: ClassificationConfig) -> type[Task[ClassificationConfig]]:
        """Return the class of the approach: this one, or the generative one."""
        if config.approach == "generative":
            from pipeline.tasks.parts.generative import GenerativeClassification

            return GenerativeClassification
        return cls


TASK = Classification
