"""The provider group: who trains, this machine or a service, and with which hyperparameters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainValidator, TypeAdapter
from pydantic.dataclasses import dataclass

from pipeline.config.by_name import ByName
from pipeline.config.types import (
    STRICT,
    Access,
    Count,
    Few,
    NonNegative,
    Positive,
    Settings,
    Text,
)


def _checked(address: str) -> str:
    """Refuse an address that a key would go to in clear, or that has one in it."""
    parts = urlsplit(address)
    if not parts.hostname or "@" in parts.netloc or any(map(str.isspace, address)):
        raise ValueError("Input should be https://… without a name or password")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_here(address)):
        raise ValueError("Input should begin with https://, or be of this machine")
    return address.rstrip("/")


def is_here(address: str) -> bool:
    """Whether an address is of this machine."""
    return urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")


Address = Annotated[str, AfterValidator(_checked), Access.SERVICE]
Auto = Literal["auto"]  # the service decides


@dataclass(config=STRICT, frozen=True)
class TrainedHere:
    """This machine trains the model of ``model``."""

    name: Literal["none"]


@dataclass(config=STRICT, frozen=True)
class Price:
    """What a service takes, in USD per million tokens."""

    training: NonNegative  # of each epoch
    input: NonNegative  # that the tuned model reads
    output: NonNegative  # that it writes


@dataclass(config=STRICT, frozen=True, kw_only=True)
class HostedConfig(ABC):
    """What services have in common; a service's own class makes ``name`` a literal, and adds to it.

    It lies beside the service, in the module of its name in `pipeline.providers`.
    """

    name: str
    model: Text  # to be tuned, as the service calls it
    n_epochs: Count | Auto
    learning_rate_multiplier: Positive | Auto
    prices: Annotated[Mapping[Text, Price], AfterValidator(Settings)]  # by model
    price: Price | None  # of the model, where it is not in the table or another one is agreed on
    max_usd: NonNegative | None  # a run that is forecast to cost more is refused
    at_once: Few  # requests to the tuned model at an evaluation
    poll_seconds: Positive  # between two looks at a job
    request_seconds: Positive  # that an answer may take
    outage_minutes: NonNegative  # that the service may be out of reach

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the service is, as messages and records say it."""

    @property
    def known_price(self) -> Price | None:
        """The price of the model; None: it is not known."""
        return self.price or self.prices.get(self.model)


PROVIDERS = ByName("provider", "pipeline.providers", "Service")


def _of_its_class(value: Any) -> Any:
    """Check the settings of a provider against the class of their name."""
    if isinstance(value, TrainedHere | HostedConfig):
        return value
    name = value.get("name") if isinstance(value, Mapping) else None
    return TypeAdapter(provider_class(name)).validate_python(value)


def provider_class(name: Any) -> type[TrainedHere | HostedConfig]:
    """Return the config class of a provider, by its name.

    Raises:
        PydanticCustomError: for a name that none has.
    """
    return TrainedHere if name == "none" else PROVIDERS.find(name).config_class


ProviderConfig = Annotated[TrainedHere | HostedConfig, PlainValidator(_of_its_class)]


def named_model(provider: TrainedHere | HostedConfig) -> dict[str, str]:
    """Return a service's model as a record has models, by its name; nothing of one trained here."""
    if isinstance(provider, TrainedHere):
        return {}
    name = f"{provider.model} of {provider.place}"
    return dict.fromkeys(("weights", "config", "tokenizer"), name)
