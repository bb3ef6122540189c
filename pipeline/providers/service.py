"""What a provider's service is asked for, and what it answers, in words of our own.

A provider is one module with a class ``Service`` of these methods; the example to follow is
`pipeline.providers.openai`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pipeline.common.errors import TunewrightError
from pipeline.config.provider import PROVIDERS, HostedConfig

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.data.conversations import Conversation
    from pipeline.tasks.parts.writing import GenerationConfig

JobState = Literal["waiting", "running", "succeeded", "failed", "cancelled"]
# Outages and a service that is busy pass; the others do not.
Fault = Literal["outage", "busy", "quota", "key", "gone", "validation", "moderation", "refused"]


# Parts of the codes and words by which services tell why a request or a job failed.
_SIGNS: Mapping[Fault, str] = {
    "quota": r"quota|billing|insufficient_funds",
    "moderation": r"moderation|content_policy|usage polic|unsafe|safety",
    "validation": r"invalid_(training|validation)_file|invalid_n_|(file|invalid) format",
    "outage": r"(server|internal|system)_error|timed out|timeout",
}


class ServiceError(TunewrightError):
    """A service that does not do what it is asked for; its own words are in the text.

    Args:
        fault: of which kind.
        text: where, and what the service said.
        wait: seconds that the service asks to wait before the next request.
    """

    def __init__(self, fault: Fault, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.fault, self.wait = fault, wait
        self.kind = fault

    def with_remedy(self, remedy: str) -> ServiceError:
        """Return it with what to do then, if anything."""
        text = str(self).removesuffix(".")
        return ServiceError(self.fault, f"{text}. {remedy}".rstrip(), self.wait)

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.fault in ("outage", "busy")


def fault_in(said: str, *, outage: bool = True) -> Fault:
    """Tell by its words of which kind a failure is; whether an outage is one that they may tell."""
    for fault, signs in _SIGNS.items():
        if (outage or fault != "outage") and re.search(rf"(?<![a-z])({signs})", said.lower()):
            return fault
    return "refused"


@contextmanager
def fine(fault: Fault) -> Iterator[None]:
    """Let a request fail so: something to be deleted is gone, a job to be cancelled is over."""
    try:
        yield
    except ServiceError as error:
        if error.fault != fault:
            raise


@dataclass(frozen=True)
class Job:
    """A fine-tuning job as the service describes it."""

    id: str
    state: JobState
    model: str | None = None  # the tuned one, by the name it is asked by
    failure: str | None = None  # in the service's words
    fault: Fault | None = None  # of the failure
    split: str = "train"  # whose file the failure is about
    trained_tokens: int | None = None  # of all epochs, that are paid
    seconds: float | None = None  # from its creation to its end, by the service's clock
    checkpoints: Sequence[Mapping[str, Any]] = ()  # models of earlier steps, as it lists them

    @property
    def is_over(self) -> bool:
        """Whether its state is the last."""
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Event:
    """Something that a job tells of its way."""

    id: str
    message: str
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)  # by the service's names


@dataclass(frozen=True)
class Reply:
    """What a tuned model wrote, and the tokens that are paid for it."""

    text: str
    read: int
    written: int
    is_withheld: bool = False  # by the service's filter


@dataclass(frozen=True)
class Order:
    """What a job is made of."""

    mark: str  # by which it is found again: letters and digits
    files: Mapping[str, str]  # ids of the uploaded splits, by name
    seed: int


@dataclass(frozen=True)
class Held:
    """Something of ours that a service keeps."""

    kind: Literal["file", "model", "job"]  # a job is at work
    id: str
    about: str
    mark: str = ""  # of the order that it came of: the run's id, and a number


def given(**settings: Any) -> dict[str, Any]:
    """Return the settings that are not left to the service."""
    return {name: value for name, value in settings.items() if value != "auto"}


class HostedService(Protocol):
    """A provider's service, for one model and account. All raise `ServiceError`."""

    layout: str  # of `pipeline.data.layouts`, in which rows are sent
    tokenizer: str | None  # the public encoding of the model's tokens, as tiktoken calls it

    def check(self) -> None:
        """Refuse a key or a model that the service does not take; nothing is sent but its name."""

    def find_file(self, name: str) -> str | None:
        """Return the id of a file of this name that was uploaded before."""

    def upload(self, path: Path) -> str:
        """Upload a file of rows under its own name; return its id."""

    def delete_file(self, file_id: str) -> None:
        """Delete an uploaded file; one that is gone is no error."""

    def create(self, order: Order) -> Job:
        """Begin a job; asked once, since a second request might begin a second one."""

    def find_job(self, mark: str) -> Job | None:
        """Return the job that was created with this mark."""

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""

    def events(self, job_id: str, known: Collection[str]) -> list[Event]:
        """Return a job's events that are not known yet, the oldest first."""

    def cancel(self, job_id: str) -> None:
        """End a job; one that is over is no error."""

    def ask(self, model: str, asked: Conversation, how: GenerationConfig, seed: int) -> Reply:
        """Have a tuned model write the reply to a conversation."""

    def delete_model(self, model: str) -> None:
        """Delete a tuned model; one that is gone is no error."""

    def held(self) -> Iterator[Held]:
        """Yield what it keeps of ours, as far as it is known by name or mark."""


def service_of(config: HostedConfig) -> HostedService:
    """Return the service that a config names.

    Raises:
        ConfigError: where its client is not installed, or there is no key.
    """
    service: HostedService = PROVIDERS.find(config.name)(config)
    return service
