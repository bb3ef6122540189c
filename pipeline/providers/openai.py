"""OpenAI's fine-tuning, and services of the same interface: Azure, Nebius, `serve-tuning`."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.secrets import MASK, masked_message
from pipeline.config.provider import Address, Auto, HostedConfig, is_here
from pipeline.config.types import STRICT, Access, Count, Settings, Text
from pipeline.data.conversations import Conversation, plain
from pipeline.providers.rows import PREFIX
from pipeline.providers.service import (
    Event,
    Fault,
    Held,
    Job,
    JobState,
    Order,
    Reply,
    ServiceError,
    fault_in,
    fine,
    given,
)
from pipeline.tasks.parts.writing import GenerationConfig

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

T = TypeVar("T")

_OWN_HOST, _OWN_KEY = "api.openai.com", "OPENAI_API_KEY"
_MARK = "tunewright"  # key of a job's metadata
_PAGE = 100
_STATES: Mapping[str, JobState] = {
    "validating_files": "waiting",
    "queued": "waiting",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}  # all others are on their way


@checked(config=STRICT, frozen=True, kw_only=True)
class OpenAIConfig(HostedConfig):
    """OpenAI's fine-tuning, or a service of the same interface."""

    name: Literal["openai"]
    base_url: Address
    # The variable that has the key.
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$"), Access.SERVICE]
    batch_size: Count | Auto
    # What the service calls each hyperparameter; Azure's and OpenAI's names are ours.
    keys: Annotated[Mapping[Text, Text], AfterValidator(Settings)]
    # Further ones, sent as they are.
    hyperparameters: Annotated[Mapping[str, Any], AfterValidator(Settings)]

    @property
    def place(self) -> str:
        """Where the service is."""
        return self.base_url


class Service:
    """A model of OpenAI's interface, by the official client.

    The client itself asks once: what is asked again, and when, is `Patience`'s business.
    """

    config_class = OpenAIConfig
    layout = "messages"

    def __init__(self, config: OpenAIConfig) -> None:
        self._config = config
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                f"provider=openai needs {error.name}: pip install 'tunewright[openai]'."
            ) from error
        self._key = _key_of(config)
        self._client = openai.OpenAI(
            base_url=config.place,
            api_key=self._key,
            max_retries=0,
            timeout=config.request_seconds,
        )
        if urlsplit(config.place).hostname != _OWN_HOST:  # whose these variables name parts of
            self._client.organization = self._client.project = None

    @property
    def tokenizer(self) -> str | None:
        """The encoding of OpenAI's models since GPT-4o; of others nothing is known."""
        return "o200k_base" if self._config.model.startswith(("gpt-4o", "gpt-4.1")) else None

    def check(self) -> None:
        """Refuse a key or a model that the service does not take."""
        model = self._config.model
        with self._asked("the models"):
            known = [one.id for one in _is(self._client.models.list().data, list)]
        if model not in known:
            raise ConfigError(
                f"provider.model={model}: {self._config.place} has no such model for this key."
                f"{did_you_mean(model, known)} Found {listing(sorted(known))}."
            )

    def find_file(self, name: str) -> str | None:
        """Return the newest file of this name."""
        with self._asked("the files"):
            every = self._client.files.list(purpose="fine-tune", order="desc")
            fitting = (one for one in every if one.filename == name and one.status != "error")
            return next((one.id for one in fitting), None)

    def upload(self, path: Path) -> str:
        """Upload a file of rows under its own name."""
        with self._asked(f"upload of {path.name}"), path.open("rb") as file:
            sent = self._client.files.create(file=(path.name, file), purpose="fine-tune")
            return _is(sent.id, str)

    def delete_file(self, file_id: str) -> None:
        """Delete an uploaded file."""
        with fine("gone"), self._asked(f"file {file_id}"):
            self._client.files.delete(file_id)

    def create(self, order: Order) -> Job:
        """Begin a job of supervised fine-tuning."""
        settings = given(
            n_epochs=self._config.n_epochs,
            batch_size=self._config.batch_size,
            learning_rate_multiplier=self._config.learning_rate_multiplier,
        )
        keys = self._config.keys
        sent: Any = {keys.get(name, name): value for name, value in settings.items()}
        sent |= self._config.hyperparameters
        with self._asked("a new job"):
            created = self._client.fine_tuning.jobs.create(
                model=self._config.model,
                training_file=order.files["train"],
                validation_file=order.files.get("validation"),
                method={"type": "supervised", "supervised": {"hyperparameters": sent}},
                seed=order.seed,
                metadata={_MARK: order.mark},
                extra_headers={"Idempotency-Key": order.mark},
            )
            return _job(created)

    def find_job(self, mark: str) -> Job | None:
        """Return the job with this mark; the service may not filter, so it is compared here."""
        with self._asked("the jobs"):
            every = self._client.fine_tuning.jobs.list(limit=_PAGE, metadata={_MARK: mark})
            found = (one for one in every if (one.metadata or {}).get(_MARK) == mark)
            newest = next(found, None)
            return _job(newest) if newest else None

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        with self._asked(f"job {job_id}"):
            job = self._client.fine_tuning.jobs.retrieve(job_id)
            found = _job(job)
        if found.state == "succeeded":
            with fine("gone"), self._asked(f"checkpoints of job {job_id}"):  # not all have them
                listed = self._client.fine_tuning.jobs.checkpoints.list(job_id, limit=_PAGE)
                return replace(found, checkpoints=[one.to_dict() for one in listed])
        return found

    def events(self, job_id: str, known: Collection[str]) -> list[Event]:
        """Return new events; the service lists the newest first."""
        new: list[Event] = []
        with fine("gone"), self._asked(f"events of job {job_id}"):
            for one in self._client.fine_tuning.jobs.list_events(job_id, limit=_PAGE):
                if one.id in known:
                    break
                new.append(_event(one.id, one.message, one.data))
        return new[::-1]

    def cancel(self, job_id: str) -> None:
        """End a job; that of one which is over is refused."""
        with fine("refused"), self._asked(f"job {job_id}"):
            self._client.fine_tuning.jobs.cancel(job_id)

    def ask(self, model: str, asked: Conversation, how: GenerationConfig, seed: int) -> Reply:
        """Have a tuned model write a reply; without sampling, at temperature 0."""
        import openai

        messages: Any = plain(asked)
        with self._asked(f"model {model}"):
            try:
                said = self._client.chat.completions.create(
                    model=model,
                    messages=messages,
                    max_completion_tokens=how.max_new_tokens,
                    seed=seed,
                    temperature=how.temperature if how.do_sample else 0.0,
                    top_p=how.top_p if how.do_sample else 1.0,
                )
            except openai.BadRequestError as error:
                if "filter" not in f"{error.code} {error}".lower():
                    raise
                return Reply("", 0, 0, is_withheld=True)
            choice, usage = said.choices[0], said.usage
            return Reply(
                choice.message.content or "",
                usage.prompt_tokens if usage else 0,
                usage.completion_tokens if usage else 0,
                choice.finish_reason == "content_filter",
            )

    def delete_model(self, model: str) -> None:
        """Delete a tuned model."""
        with fine("gone"), self._asked(f"model {model}"):
            self._client.models.delete(model)

    def held(self) -> Iterator[Held]:
        """Yield our files, and our jobs: those at work, and the models that they made."""
        with self._asked("the files"):
            for file in self._client.files.list(purpose="fine-tune"):
                if file.filename.startswith(PREFIX):
                    yield Held("file", file.id, f"{file.filename}, {file.bytes:,} bytes")
        with self._asked("the models"):
            models = {one.id for one in self._client.models.list()}
        with self._asked("the jobs"):
            for one in self._client.fine_tuning.jobs.list(limit=_PAGE):
                mark = (one.metadata or {}).get(_MARK)
                job = _job(one) if mark else None
                if job and mark and not job.is_over:
                    yield Held("job", job.id, job.state, mark)
                elif job and mark and job.model in models:
                    yield Held("model", str(job.model), f"of {job.id}", mark)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Turn the client's errors into ours, whose text says where and what the service said.

        An answer that is no JSON of the interface, such as a proxy's page, counts as an outage.
        """
        import openai

        place = f"{self._config.place}: {what}"
        try:
            yield
        except openai.APIStatusError as error:
            raise self._status_error(place, error) from None  # which holds the request's headers
        except openai.APIConnectionError as error:
            said = self._masked(str(error.__cause__ or error))
            raise ServiceError("outage", f"{place}: no answer: {said}") from None
        except (openai.APIError, AttributeError, KeyError, TypeError, ValueError) as error:
            said = f"not an answer of the interface: {self._masked(str(error))[:200]}"
            raise ServiceError("outage", f"{place}: {said}") from error

    def _masked(self, text: str) -> str:
        """Return what the service said without a secret in it, ours above all."""
        return masked_message(text.replace(self._key, MASK))

    def _status_error(self, place: str, error: openai.APIStatusError) -> ServiceError:
        said = self._masked(str(error.body.get("message") if isinstance(error.body, dict) else ""))
        text = f"{place}: {error.status_code}: {said or error.response.reason_phrase}"
        by_status: Mapping[int, Fault] = {401: "key", 403: "key", 404: "gone", 408: "outage"}
        if error.status_code == 429:
            fault: Fault = "quota" if "quota" in f"{error.code} {said}".lower() else "busy"
        elif error.status_code >= 500:
            fault = "outage"
        else:
            said_so = fault_in(f"{error.code} {said}", outage=False)
            fault = by_status.get(error.status_code) or said_so
        if fault == "key":
            text += f"; the key is that of the variable {self._config.api_key_env}"
        wait = error.response.headers.get("retry-after", "")
        return ServiceError(
            fault, text, float(wait) if wait.replace(".", "", 1).isdigit() else None
        )


def _key_of(config: OpenAIConfig) -> str:
    """Return the key from the environment.

    Raises:
        ConfigError: where there is none, or it is OpenAI's and would go elsewhere.
    """
    host = urlsplit(config.place).hostname
    if config.api_key_env == _OWN_KEY and host != _OWN_HOST and not is_here(config.place):
        raise ConfigError(
            f"provider.base_url={config.base_url}: {_OWN_KEY}, the key of OpenAI, would be sent to "
            f"{host}; expected provider.api_key_env=VARIABLE with the name of the variable that "
            "has its key."
        )
    elsewhere = os.environ.get("OPENAI_BASE_URL", "").rstrip("/")
    if host == _OWN_HOST and elsewhere not in ("", config.place):
        raise ConfigError(
            f"provider.base_url={config.base_url}: OPENAI_BASE_URL is {elsewhere}, and the config "
            f"decides; expected provider.base_url={elsewhere}, or the variable unset."
        )
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"provider.api_key_env: the variable {config.api_key_env} is not set; expected the key "
            f"of {config.place} in it."
        )
    return key


def _is(value: Any, kind: type[T]) -> T:
    """Return a part of an answer; the client does not check what it reads."""
    if not isinstance(value, kind):
        raise TypeError(f"found {value!r}")
    return value


def _job(job: FineTuningJob) -> Job:
    error = job.error if job.error and (job.error.message or job.error.code) else None
    said = [error.code, error.message] if error else []
    failure = ": ".join(filter(None, said)) if error else None
    param = error.param if error else None
    return Job(
        id=_is(job.id, str),
        state=_STATES.get(_is(job.status, str), "running"),
        model=job.fine_tuned_model,
        failure=failure,
        fault=fault_in(failure) if failure else None,
        split="validation" if param == "validation_file" else "train",
        trained_tokens=job.trained_tokens,
        seconds=float(job.finished_at - job.created_at) if job.finished_at else None,
    )


def _event(event_id: str, message: str, data: Any) -> Event:
    numbers = data if isinstance(data, Mapping) else {}
    metrics = {
        name: float(value)
        for name, value in numbers.items()
        if name not in ("step", "total_steps")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }
    step = numbers.get("step")
    return Event(event_id, message, step if isinstance(step, int) else 0, metrics)
