"""The jobs of one account: each a folder with the job as its client sees it, and its events."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.common.atomic import remove_leftovers
from pipeline.common.private import make_folder
from pipeline.hosting.documents import Document, append, new_id, page, read, read_lines, write
from pipeline.hosting.errors import ApiError, missing
from pipeline.hosting.wire import Hyperparameters, NewJob

OPEN = ("validating_files", "queued", "running")  # states that are not the last
_ABOUT, _EVENTS, _RUN = "job.json", "events.jsonl", "run.json"


class Jobs:
    """The jobs of an account. Their process alone changes them; a job's child adds events."""

    def __init__(self, folder: Path, account: str) -> None:
        self.folder, self._account, self._lock = folder, account, threading.RLock()
        make_folder(folder)
        remove_leftovers(folder)

    def create(self, asked: NewJob, seed: int) -> Document:
        """Note a new job, which is to be queued."""
        given = asked.given
        job: Document = {
            "id": new_id("ftjob"),
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "model": asked.model,
            "organization_id": self._account,
            "training_file": asked.training_file,
            "validation_file": asked.validation_file,
            "hyperparameters": given.model_dump(),
            "method": {"type": "supervised", "supervised": {"hyperparameters": given.model_dump()}},
            "seed": seed,
            "metadata": asked.metadata,
            "integrations": [],
            "result_files": [],
            "status": "queued",
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "estimated_finish": None,
            "trained_tokens": None,
            "user_provided_suffix": asked.suffix,
            "is_paused": False,  # which the six states do not tell
        }
        make_folder(self.folder / job["id"])
        write(self.folder / job["id"] / _ABOUT, job)
        self.say(job["id"], f"Created fine-tuning job: {job['id']}")
        return job

    def all(self) -> list[Document]:
        """Return every job, the newest first."""
        every = [read(about) for about in self.folder.glob(f"ftjob-*/{_ABOUT}")]
        return sorted(every, key=lambda one: one["id"], reverse=True)

    def page(self, after: str | None, limit: int, metadata: Mapping[str, str]) -> Document:
        """Return a page of the jobs that have these metadata."""
        every = [job for job in self.all() if metadata.items() <= (job["metadata"] or {}).items()]
        return page(every, after, limit, "FineTuningJob")

    def get(self, job_id: str) -> Document:
        """Return a job."""
        return read(self.place(job_id) / _ABOUT)

    def place(self, job_id: str) -> Path:
        """Return a job's folder."""
        known = {path.name: path for path in self.folder.glob("ftjob-*/")}
        if job_id not in known:  # by its name alone: an id is no path
            raise missing("FineTuningJob", job_id)
        return known[job_id]

    def change(self, job_id: str, *, only: tuple[str, ...] = OPEN, **changes: Any) -> Document:
        """Change a job that is in one of some states; else refuse.

        Raises:
            ApiError: naming the state.
        """
        with self._lock:
            job = self.get(job_id)
            if job["status"] not in only:
                raise ApiError(
                    400,
                    f"Job {job_id} has status {job['status']}; expected {' or '.join(only)}.",
                    code="invalid_job_state",
                )
            if changes.get("status", "queued") not in OPEN:
                changes["finished_at"] = int(time.time())
            write(self.place(job_id) / _ABOUT, job | changes)
            return job | changes

    def say(self, job_id: str, message: str, level: str = "info") -> None:
        """Add an event to a job."""
        add_event(self.events_file(job_id), message, level=level)

    def events_file(self, job_id: str) -> Path:
        """Return where a job's events are, the oldest first."""
        return self.place(job_id) / _EVENTS

    def events(self, job_id: str, after: str | None, limit: int) -> Document:
        """Return a page of a job's events, the newest first."""
        every = read_lines(self.events_file(job_id))[::-1]
        return page(every, after, limit, "event")

    def checkpoints(self, job_id: str, after: str | None, limit: int) -> Document:
        """Return the one state of the model that is kept: that of the best evaluation."""
        job = self.get(job_id)
        found: list[Document] = []
        if job["fine_tuned_model"]:
            best = self._run(job)
            found.append(
                {
                    "id": f"ftckpt-{job_id.partition('-')[2]}",
                    "object": "fine_tuning.job.checkpoint",
                    "created_at": job["finished_at"],
                    "fine_tuned_model_checkpoint": job["fine_tuned_model"],
                    "fine_tuning_job_id": job_id,
                    "step_number": best["step"],
                    "metrics": {"step": best["step"], **best["metrics"]},
                }
            )
        return page(found, after, limit, "checkpoint")

    def trained(self, job_id: str, outcome: Document) -> Document:
        """Note that a job's model is there."""
        write(self.place(job_id) / _RUN, outcome)
        suffix = self.get(job_id)["user_provided_suffix"] or ""
        base = self.get(job_id)["model"]
        name = f"ft:{base}:{self._account}:{suffix}:{job_id[-8:]}"
        tokens = outcome["trained_tokens"]
        decided = {"hyperparameters": outcome["hyperparameters"]}
        return self.change(
            job_id,
            status="succeeded",
            fine_tuned_model=name,
            trained_tokens=tokens,
            method={"type": "supervised", "supervised": decided},
            **decided,
        )

    def models(self) -> list[tuple[str, int]]:
        """Return the names of the tuned models, and when each was there."""
        done = [job for job in self.all() if job["fine_tuned_model"]]
        kept = [job for job in done if not self._run(job).get("is_deleted")]
        return [(job["fine_tuned_model"], job["finished_at"]) for job in kept]

    def run_of(self, model: str) -> str:
        """Return the MLflow run that keeps a tuned model.

        Raises:
            ApiError: where there is no such model.
        """
        return str(self._run(self._job_of(model))["run_id"])

    def lost_model(self, model: str) -> None:
        """Note that a tuned model was deleted."""
        job = self._job_of(model)
        write(self.place(job["id"]) / _RUN, self._run(job) | {"is_deleted": True})

    def _job_of(self, model: str) -> Document:
        known = dict(self.models())
        for job in self.all():
            if model in known and job["fine_tuned_model"] == model:
                return job
        raise ApiError(
            404,
            f"The model `{model}` does not exist, or is not yours to ask.",
            param="model",
            code="model_not_found",
        )

    def _run(self, job: Document) -> Document:
        return read(self.place(job["id"]) / _RUN)


def add_event(
    file: Path, message: str, *, level: str = "info", metrics: Mapping[str, float] | None = None
) -> None:
    """Add an event to a job's list: a message, or metrics of a step."""
    append(
        file,
        {
            "id": new_id("ftevent"),
            "object": "fine_tuning.job.event",
            "created_at": int(time.time()),
            "level": level,
            "message": message,
            "type": "message" if metrics is None else "metrics",
            "data": {} if metrics is None else dict(metrics),
        },
    )


def numbers_of(job: Document) -> Hyperparameters:
    """Return a job's hyperparameters."""
    return Hyperparameters(**job["hyperparameters"])
