"""The optimizer and schedule groups: how weights and the learning rate are updated."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from pipeline.config.flat import AUTO
from pipeline.config.types import STRICT, Number, Settings, Share, Text, conflict, is_steps


def _plain(value: Any) -> Any:
    several = value if isinstance(value, list | tuple) else [value]
    for one in several:
        if isinstance(one, str | bool) or (one is None and several is not value):
            continue
        if not isinstance(one, int | float) or not math.isfinite(one):
            raise ValueError("Input should be a number, text, true, false, null or a list of such")
    return tuple(value) if isinstance(value, list) else value


def _number_or_auto(value: Any) -> Any:
    try:
        return value if value == AUTO or not isinstance(value, str) else float(value)
    except ValueError:
        raise ValueError("Input should be a number, or auto") from None


_Value = Annotated[Any, BeforeValidator(_plain)]


@dataclass(config=STRICT, frozen=True)
class OptimizerConfig:
    """A class of torch.optim and its hyperparameters; an optimizer's YAML lists those it has.

    Those without a field here are checked by the class itself: `training.optimizer` checks them
    against its signature.
    """

    name: Text  # the class: AdamW, Adafactor, SGD, NAdam …
    # Peak, after warm-up. auto: where a rule says to begin, of the kind of training, the model's
    # family and width and the batch size; a run logs the number.
    learning_rate: Annotated[
        Annotated[Number, Field(gt=0, le=10)] | Literal["auto"], BeforeValidator(_number_or_auto)
    ]
    # Decoupled if the class supports it; never on biases and norms.
    weight_decay: Annotated[Number, Field(ge=0, le=1)]
    beta1: Annotated[Number, Field(ge=0, lt=1)] | None = None  # Adam's first-moment decay
    beta2: Annotated[Number, Field(ge=0, lt=1)] | None = None  # Adam's second-moment decay
    eps: Annotated[Number, Field(gt=0, le=1)] | None = None
    momentum: Annotated[Number, Field(ge=0, lt=1)] | None = None
    nesterov: bool | None = None
    beta2_decay: Annotated[Number, Field(ge=-1, lt=0)] | None = None  # of beta2, in Adafactor
    d: Annotated[Number, Field(gt=0)] | None = None  # Adafactor's update clipping threshold
    # By which a layer's learning rate is that of the next one multiplied; 1: all have the same.
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    head_multiplier: Annotated[Number, Field(gt=0, le=1000)] = 1.0  # of a new head's learning rate
    # By what the learning rate is multiplied; sqrt: by √(batch size / 16), none: by nothing.
    scale_with_batch: Literal["sqrt", "none"] = "none"
    # By torch's own names. Not a config key: all keys without a field are collected here.
    others: Annotated[Mapping[str, _Value], AfterValidator(Settings)] = Field(
        default_factory=Settings
    )

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):  # built in code
            return given
        own = {field.name for field in fields(cls)} - {"others"}
        known = {key: value for key, value in given.items() if key in own}
        return {**known, "others": {k: v for k, v in given.items() if k not in known}}


@dataclass(config=STRICT, frozen=True)
class ScheduleConfig:
    """How the learning rate changes over the steps of the run."""

    name: Literal["linear", "cosine", "constant", "warmup_stable_decay"]
    warmup: (
        Annotated[int, Field(lt=2**31)] | float
    )  # a whole number is steps; a share of all steps has a point: 0.06
    decay: Share | None = None  # share of the steps in which warmup_stable_decay falls to zero

    @field_validator("warmup", mode="before")
    @classmethod
    def _unambiguous(cls, value: Any) -> Any:
        is_share = isinstance(value, float) and 0 <= value < 1  # false for NaN
        if not is_steps(value, least=0) and not is_share:
            raise ValueError(
                "Input should be a whole number of steps (0, 100) or a share of all steps "
                "written with a point, at least 0.0 and below 1.0 (0.06)"
            )
        return value

    @model_validator(mode="after")
    def _decay_fits(self) -> "ScheduleConfig":
        decays = self.name == "warmup_stable_decay"
        if decays and self.decay is None:
            raise conflict(
                "schedule.decay=null: expected a share of all steps (0.2), since "
                "schedule.name=warmup_stable_decay decays; schedule=warmup_stable_decay sets one"
            )
        if not decays and self.decay is not None:
            raise conflict(
                f"schedule.decay={self.decay}: expected none, since schedule.name={self.name} has "
                "no decay to set; schedule=warmup_stable_decay has"
            )
        if isinstance(self.warmup, float) and self.warmup + (self.decay or 0.0) > 1:
            raise conflict(
                f"schedule.decay={self.decay}: expected at most what schedule.warmup={self.warmup} "
                f"leaves of the steps, {round(1 - self.warmup, 6)}"
            )
        return self
