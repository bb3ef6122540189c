"""Tuning of Gemini models on Google Cloud (Vertex AI), by google-genai; rows go to a bucket."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator
from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import ConfigError
from pipeline.common.secrets import masked_message
from pipeline.config.provider import Address, Auto, HostedConfig, is_here
from pipeline.config.types import STRICT, Access, Count, Text, conflict
from pipeline.data.conversations import Conversation, system_of, turns_of
from pipeline.data.layouts import LAYOUTS
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
    from google.cloud.storage import Bucket
    from google.genai.types import TuningJob

_MARK = "tunewright"  # a label of a job
_STATES: Mapping[str, JobState] = {
    "JOB_STATE_QUEUED": "waiting",
    "JOB_STATE_PENDING": "waiting",
    "JOB_STATE_SUCCEEDED": "succeeded",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "succeeded",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_CANCELLED": "cancelled",
}  # all others are on their way
_ADAPTERS = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN", 32: "THIRTY_TWO"}
_WITHHELD = ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION")
_BY_STATUS: Mapping[int, Fault] = {401: "key", 403: "key", 404: "gone", 408: "outage", 429: "busy"}


def _bucket(address: str) -> str:
    if not address.removeprefix("gs://").strip("/") or not address.startswith("gs://"):
        raise ValueError("Input should be gs://bucket, or a folder in one")
    return address


@checked(config=STRICT, frozen=True, kw_only=True)
class VertexConfig(HostedConfig):
    """Tuning of Gemini models on Google Cloud."""

    name: Literal["vertex"]
    project: Annotated[Text, Access.SERVICE]
    location: Text
    bucket: Annotated[str, AfterValidator(_bucket), Access.SERVICE]  # or a folder in it
    base_url: Address | None  # of tuning and replies; null: Google's
    storage_url: Address | None  # of the bucket; null: Google's
    adapter_size: Literal[1, 2, 4, 8, 16, 32] | Auto  # rank of the LoRA adapter
    thinking_budget: Count | Literal[0] | None  # tokens; null: the service decides

    @model_validator(mode="after")
    def _sends_no_token_elsewhere(self) -> VertexConfig:
        for key in ("base_url", "storage_url"):
            address = getattr(self, key)
            host = urlsplit(address or "").hostname or ""
            if address and not (is_here(address) or host.endswith(".googleapis.com")):
                raise conflict(
                    f"provider.{key}={address}: a token of your Google account would be sent "
                    "there; expected a host of googleapis.com, or this machine"
                )
        return self

    @model_validator(mode="after")
    def _can_think_so_little(self) -> VertexConfig:
        if "-pro" in self.model and self.thinking_budget is not None and self.thinking_budget < 128:
            raise conflict(
                f"provider.thinking_budget={self.thinking_budget}: {self.model} cannot turn "
                "thinking off, by Google's documents; expected null, or 128 tokens and more"
            )
        return self

    @property
    def place(self) -> str:
        """Where the service is."""
        return f"projects/{self.project}/locations/{self.location}"


class Service:
    """A Gemini model, by the official clients; they ask once, and `Patience` asks again."""

    config_class = VertexConfig
    layout = "contents"
    tokenizer = None  # Google's are not public

    def __init__(self, config: VertexConfig) -> None:
        self._config = config
        try:
            from google import genai
            from google.cloud import storage
        except ImportError as error:
            raise ConfigError(
                f"provider=vertex needs {error.name}: pip install 'tunewright[vertex]'."
            ) from error
        self._cloud = storage
        options = genai.types.HttpOptions(timeout=int(1000 * config.request_seconds))
        if config.base_url is not None:
            options.base_url = config.base_url
        with self._asked("credentials"):
            self._client = genai.Client(
                enterprise=True,
                project=config.project,
                location=config.location,
                http_options=options,
            )

    def check(self) -> None:
        """Refuse credentials or a model that the service does not take."""
        with self._asked(f"model {self._config.model}"):
            self._client.models.get(model=self._config.model)

    def find_file(self, name: str) -> str | None:
        """Return the address of a file of this name in the bucket."""
        with self._asked(f"{self._config.bucket}, {name}"):
            blob = self._bucket.blob(self._path(name))
            return self._address(blob.name) if blob.exists(retry=None) else None

    def upload(self, path: Path) -> str:
        """Put a file of rows into the bucket under its own name."""
        with self._asked(f"{self._config.bucket}, upload of {path.name}"):
            blob = self._bucket.blob(self._path(path.name))
            blob.upload_from_filename(str(path), content_type="application/jsonl", retry=None)
            return self._address(blob.name)

    def delete_file(self, file_id: str) -> None:
        """Delete a file of the bucket."""
        with self._asked(f"{self._config.bucket}, {file_id}"):
            blob = self._bucket.blob(self._path(file_id.rpartition("/")[2]))
            if blob.exists(retry=None):
                blob.delete(retry=None)

    def create(self, order: Order) -> Job:
        """Begin a job of supervised tuning."""
        from google.genai import types

        size = self._config.adapter_size
        adapter = f"ADAPTER_SIZE_{_ADAPTERS[size]}" if size != "auto" else "auto"
        sent = given(
            epoch_count=self._config.n_epochs,
            learning_rate_multiplier=self._config.learning_rate_multiplier,
            adapter_size=adapter,
        )
        with self._asked("a new job"):
            return _job(
                self._client.tunings.tune(
                    base_model=self._config.model,
                    training_dataset=types.TuningDataset(gcs_uri=order.files["train"]),
                    config=types.CreateTuningJobConfig(
                        validation_dataset=types.TuningValidationDataset(
                            gcs_uri=order.files["validation"]
                        ),
                        tuned_model_display_name=f"{PREFIX}{order.mark}"[:128],
                        labels={_MARK: order.mark},
                        **sent,
                    ),
                )
            )

    def find_job(self, mark: str) -> Job | None:
        """Return the job with this label; whether the service filters is not relied upon."""
        return next((_job(one) for one in self._jobs() if (one.labels or {})[_MARK] == mark), None)

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        with self._asked(f"job {job_id}"):
            return _job(self._client.tunings.get(name=job_id))

    def events(self, job_id: str, known: Collection[str]) -> list[Event]:
        """Return how far a job is: the service tells no more of its way, and no losses."""
        with self._asked(f"job {job_id}"):
            about = self._client.tunings.get(name=job_id).tuning_job_metadata
        step, epoch = (about.completed_step_count, about.completed_epoch_count) if about else (0, 0)
        event = Event(f"step-{step}", f"Step {step}", step or 0, {"epoch": float(epoch or 0)})
        return [event] if step and event.id not in known else []

    def cancel(self, job_id: str) -> None:
        """End a job; that of one which is over is refused."""
        with fine("refused"), self._asked(f"job {job_id}"):
            self._client.tunings.cancel(name=job_id)

    def ask(self, model: str, asked: Conversation, how: GenerationConfig, seed: int) -> Reply:
        """Have a tuned model write a reply; without sampling, at temperature 0."""
        from google.genai import types

        budget = self._config.thinking_budget
        contents: Any = LAYOUTS["contents"].write(turns_of(asked))["contents"]
        with self._asked(f"model {model}"):
            said = self._client.models.generate_content(
                model=model,
                contents=contents,
                config=types.GenerateContentConfig(
                    system_instruction=system_of(asked),
                    temperature=how.temperature if how.do_sample else 0.0,
                    top_p=how.top_p if how.do_sample else 1.0,
                    max_output_tokens=how.max_new_tokens,
                    seed=seed,
                    thinking_config=None
                    if budget is None
                    else types.ThinkingConfig(thinking_budget=budget),
                ),
            )
            first = said.candidates[0] if said.candidates else None
            reason = first.finish_reason.name if first and first.finish_reason else ""
            is_withheld = first is None or reason in _WITHHELD
            used = said.usage_metadata or types.GenerateContentResponseUsageMetadata()
            return Reply(
                "" if is_withheld else said.text or "",
                used.prompt_token_count or 0,
                (used.candidates_token_count or 0) + (used.thoughts_token_count or 0),
                is_withheld,
            )

    def delete_model(self, model: str) -> None:
        """Refuse: the model is deployed, and Google's client cannot take it down."""
        raise ServiceError(
            "refused",
            f"{model}: google-genai cannot delete a deployed model; `gcloud ai endpoints "
            "undeploy-model` and `gcloud ai models delete` can.",
        )

    def held(self) -> Iterator[Held]:
        """Yield our files in the bucket, and our jobs: those at work, and what they made."""
        with self._asked(self._config.bucket):
            for blob in self._bucket.list_blobs(prefix=self._path(PREFIX), retry=None):
                yield Held("file", self._address(blob.name), f"{blob.size or 0:,} bytes")
        for one in self._jobs():
            job = _job(one)
            if not job.is_over:
                yield Held("job", job.id, job.state, (one.labels or {})[_MARK])
            elif job.model:
                yield Held("model", job.model, f"of {job.id}", (one.labels or {})[_MARK])

    def _jobs(self) -> Iterator[TuningJob]:
        """Yield our jobs, the newest first."""
        with self._asked("the jobs"):
            every = self._client.tunings.list(config={"filter": f"labels.{_MARK}:*"})
            yield from (one for one in every if _MARK in (one.labels or {}))

    @cached_property
    def _bucket(self) -> Bucket:
        where = self._config.storage_url
        client = self._cloud.Client(
            project=self._config.project,
            client_options={"api_endpoint": where} if where else None,
        )
        return client.bucket(self._config.bucket.removeprefix("gs://").partition("/")[0])

    def _path(self, name: str) -> str:
        folder = self._config.bucket.removeprefix("gs://").partition("/")[2].strip("/")
        return f"{folder}/{name}".lstrip("/")

    def _address(self, path: str) -> str:
        return f"gs://{self._bucket.name}/{path}"

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Turn the clients' errors into ours, whose text says where and what the service said."""
        import google.auth.exceptions as auth
        import httpx2
        import requests
        from google.api_core.exceptions import GoogleAPICallError
        from google.genai.errors import APIError

        place = f"{self._config.place}: {what}"
        try:
            yield
        except APIError as error:
            raise _status_error(place, error.code, f"{error.status}: {error.message}") from None
        except GoogleAPICallError as error:
            raise _status_error(place, int(error.code or 0), str(error.message)) from None
        except auth.TransportError as error:
            raise ServiceError("outage", f"{place}: {masked_message(str(error))}") from None
        except auth.GoogleAuthError as error:
            raise ServiceError(
                "key",
                f"{place}: no credentials of Google: {masked_message(str(error))[:200]} `gcloud "
                "auth application-default login` makes them; GOOGLE_APPLICATION_CREDENTIALS names "
                "those of a service account.",
            ) from None
        except (httpx2.HTTPError, requests.RequestException, OSError) as error:
            said = f"no answer: {masked_message(str(error))}"
            raise ServiceError("outage", f"{place}: {said}") from None
        except (ValueError, AttributeError, TypeError) as error:
            said = f"not an answer of the interface: {masked_message(str(error))[:200]}"
            raise ServiceError("outage", f"{place}: {said}") from error


def _job(job: TuningJob) -> Job:
    state = job.state.name if job.state else ""
    error, tuned = job.error, job.tuned_model
    failure = f"{error.code}: {error.message}" if error and error.message else None
    began, ended = job.create_time, job.end_time
    return Job(
        id=job.name or "",
        state=_STATES.get(state, "running"),
        model=tuned.endpoint if tuned else None,
        failure=failure or (state if state == "JOB_STATE_EXPIRED" else None),
        fault=fault_in(failure) if failure else None,
        trained_tokens=_trained(job),
        seconds=(ended - began).total_seconds() if began and ended else None,
        checkpoints=[one.model_dump(mode="json") for one in (tuned and tuned.checkpoints) or ()],
    )


def _trained(job: TuningJob) -> int | None:
    """Return the tokens of all epochs: the documents give those of the data set, and price both."""
    stats, spec = job.tuning_data_stats, job.supervised_tuning_spec
    known = stats.supervised_tuning_data_stats if stats else None
    epochs = spec.hyper_parameters.epoch_count if spec and spec.hyper_parameters else None
    tokens = known.total_billable_token_count if known else None
    return tokens * epochs if tokens and epochs else None


def _status_error(place: str, code: int, said: str) -> ServiceError:
    text = f"{place}: {code}: {masked_message(said)}"
    if code >= 500:
        return ServiceError("outage", text)
    by_words = fault_in(said, outage=False)
    fault = by_words if by_words == "quota" else _BY_STATUS.get(code, by_words)
    return ServiceError(fault, text)
