"""The adapter group: which weights are trained."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.config.types import STRICT, Count, Few, Number, Positive, Text


@dataclass(config=STRICT, frozen=True)
class FullConfig:
    """All weights are trained."""

    name: Literal["none"]


@dataclass(config=STRICT, frozen=True)
class LoraConfig:
    """Low-rank updates next to frozen matrices (LoRA; DoRA splits magnitude off; QLoRA: 4 bits)."""

    name: Literal["lora", "dora", "qlora"]
    r: Annotated[Count, Field(le=2**14)]  # rank
    alpha: Positive  # the update is scaled by alpha / r
    dropout: Annotated[Number, Field(ge=0, lt=1)]
    targets: tuple[Text, ...] | None  # names of the matrices; null: those usual for the model


@dataclass(config=STRICT, frozen=True)
class Ia3Config:
    """Learned scales of keys, values and feed-forward activations (IA3)."""

    name: Literal["ia3"]
    targets: tuple[Text, ...] | None  # names of the matrices; null: those usual for the model


@dataclass(config=STRICT, frozen=True)
class HeadConfig:
    """Only the task's new head is trained."""

    name: Literal["head"]


@dataclass(config=STRICT, frozen=True)
class FreezeConfig:
    """The top layers and the head are trained, everything below is frozen."""

    name: Literal["freeze"]
    trained_layers: Few  # from the top


AdapterConfig = FullConfig | LoraConfig | Ia3Config | HeadConfig | FreezeConfig
