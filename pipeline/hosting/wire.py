"""What clients send, typed; what they may not send is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Auto = Literal["auto"]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Hyperparameters(_Sent):
    """Numbers, or ``auto``: the server decides."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"


class Supervised(_Sent):
    """Of the method ``supervised``."""

    hyperparameters: Hyperparameters | None = None


class Method(_Sent):
    """How a model is tuned."""

    type: Literal["supervised"]
    supervised: Supervised | None = None


MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class NewJob(_Sent):
    """A job to create. ``hyperparameters`` is the older place of those of the method."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    suffix: Annotated[str, Field(max_length=64, pattern=r"^[\w.-]+$")] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def given(self) -> Hyperparameters:
        """The hyperparameters, wherever they are."""
        return self.of_method or self.hyperparameters or Hyperparameters()

    @property
    def of_method(self) -> Hyperparameters | None:
        """Those that the method has."""
        supervised = self.method.supervised if self.method else None
        return supervised.hyperparameters if supervised else None


class Part(_Sent):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(_Sent):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """Return it as a row of training has it."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(_Sent):
    """What a stream has besides the reply."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Chat(_Sent):
    """A conversation to be answered; what a local model cannot do is no key."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None

    @property
    def most_tokens(self) -> int | None:
        """How many tokens a reply may have."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        """The texts before which a reply ends."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []
