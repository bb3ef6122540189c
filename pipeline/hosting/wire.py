"""What clients send, typed; what they may not send is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.config.types import MOST_TOKENS


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _unless_auto(value: Any) -> Any:
    return None if value == "auto" else value


Auto = BeforeValidator(_unless_auto)


class Hyperparameters(_Sent):
    """Numbers; None, which is ``auto``: the server decides."""

    n_epochs: Annotated[Annotated[int, Field(ge=1, le=50, strict=True)] | None, Auto] = None
    batch_size: Annotated[Annotated[int, Field(ge=1, le=256, strict=True)] | None, Auto] = None
    learning_rate_multiplier: Annotated[
        Annotated[float, Field(gt=0, le=1000, strict=True)] | None, Auto
    ] = None

    def plain(self) -> dict[str, Any]:
        """Return them as the interface writes them."""
        return {k: "auto" if v is None else v for k, v in self.model_dump().items()}


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


def _as_parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class ChatMessage(_Sent):
    """A turn of a conversation; what only replies have is empty, as a client sends it back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], BeforeValidator(_as_parts)]
    name: str | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None

    def plain(self) -> dict[str, str]:
        """Return it as a row of training has it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": "".join(part.text for part in self.content)}


class StreamOptions(_Sent):
    """What a stream has besides the reply."""

    include_usage: bool = False
    include_obfuscation: bool = False


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[str, Field(min_length=1)]


class Chat(_Sent):
    """A conversation to be answered; what a local model cannot do is no key."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    seed: int | None = None
    stop: Annotated[
        Annotated[list[Stop], Field(max_length=4)] | None, BeforeValidator(_as_list)
    ] = None
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
        return self.stop or []
