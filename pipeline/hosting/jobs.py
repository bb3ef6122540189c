"""The jobs of one account: each a folder with the job as its client sees it, and its events."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.atomic import remove_leftovers, replacing
from pipeline.common.private import make_folder
from pipeline.hosting.documents import (
    Document,
    append,
    new_id,
    page,
    place_of,
    read,
    read_lines,
    write,
)
from pipeline.hosting.errors import ApiError
from pipeline.hosting.wire import NewJob

OPEN = ("validating_files", "queued", "running")  # states that are not the last
_ABOUT, _EVENTS = "job.json", "events.jsonl"
_OURS = "ours.json"  # what no client sees


@dataclass(frozen=True)
class JobFile:
    """A file that a job reads."""

    param: str  # of the request
    name: str  # as its owner calls it
    place: Path


class Jobs:
    """The jobs of an account. Their process alone changes them; a job's child adds events."""

    def __init__(self, folder: Path, account: str) -> None:
        self.folder, self._account, self._lock = folder, account, threading.RLock()
        make_folder(folder)
        for place in (folder, *folder.glob("ftjob-*/")):
            remove_leftovers(place)

    def create(
        self, asked: NewJob, seed: int, overrides: Sequence[str], files: Sequence[JobFile]
    ) -> Document:
        """Note a new job, which is to be queued.

        Args:
            asked: the request.
            seed: of its run.
            overrides: the server's at this time, which hold for it from now on.
            files: that it reads, and keeps where its client deletes them.
        """
        given = asked.given.plain()
        job: Document = {
            "id": new_id("ftjob"),
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "model": asked.model,
            "organization_id": self._account,
            "training_file": asked.training_file,
            "validation_file": asked.validation_file,
            "hyperparameters": given,
            "method": {"type": "supervised", "supervised": {"hyperparameters": given}},
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
        with replacing(self.folder / job["id"]) as made:
            make_folder(made)
            kept = [{"param": one.param, "name": one.name, "file": one.place.name} for one in files]
            for one in files:
                _link(one.place, made / one.place.name)
            write(made / _OURS, {"overrides": list(overrides), "files": kept})
            write(made / _ABOUT, job)
            add_event(made / _EVENTS, f"Created fine-tuning job: {job['id']}")
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
        return read(self._place(job_id) / _ABOUT)

    def origin(self, job_id: str) -> tuple[list[str], list[JobFile]]:
        """Return the server's overrides when a job was created, and its files."""
        place = self._place(job_id)
        ours = read(place / _OURS)
        files = [JobFile(one["param"], one["name"], place / one["file"]) for one in ours["files"]]
        return ours["overrides"], files

    def begin(self, job_id: str) -> bool:
        """Note that a job runs; return whether it is to."""
        with self._lock, suppress(ApiError):
            if not self.get(job_id)["is_paused"]:
                self.change(job_id, status="running")
                return True
        return False

    def change(
        self,
        job_id: str,
        *,
        said: str | None = None,
        level: str = "info",
        paused: bool | None = None,
        **changes: Any,
    ) -> Document:
        """Change a job that is not over, telling it first; else refuse.

        Args:
            job_id: the job.
            said: the event.
            level: of the event.
            paused: what the job has to be.
            changes: by key.

        Raises:
            ApiError: for another state.
        """
        with self._lock:
            job = self.get(job_id)
            if job["status"] not in OPEN:
                raise _state(job, f"has status {job['status']}; it is over")
            if paused not in (None, job["is_paused"]):
                raise _state(job, f"is {'' if job['is_paused'] else 'not '}paused")
            if changes.get("status", "queued") not in OPEN:
                changes["finished_at"] = int(time.time())
            if said is not None:
                add_event(self.events_file(job_id), said, level=level)
            write(self._place(job_id) / _ABOUT, job | changes)
            return job | changes

    def events_file(self, job_id: str) -> Path:
        """Return where a job's events are, the oldest first."""
        return self._place(job_id) / _EVENTS

    def events(self, job_id: str, after: str | None, limit: int) -> Document:
        """Return a page of a job's events, the newest first."""
        every = read_lines(self.events_file(job_id))[::-1]
        return page(every, after, limit, "event")

    def checkpoints(self, job_id: str, after: str | None, limit: int) -> Document:
        """Return the one state of the model that is kept: that of the best evaluation."""
        job = self.get(job_id)
        found: list[Document] = []
        if job["fine_tuned_model"]:
            best = read(self._place(job_id) / _OURS)
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

    def trained(self, job_id: str, outcome: Document) -> None:
        """Note that a job's model is there.

        Raises:
            ApiError: where the job is over, since it was cancelled.
        """
        job, place = self.get(job_id), self._place(job_id)
        write(place / _OURS, read(place / _OURS) | outcome)
        suffix = job["user_provided_suffix"] or ""
        decided = {"hyperparameters": outcome["hyperparameters"]}
        self.change(
            job_id,
            said="The job has successfully completed",
            status="succeeded",
            fine_tuned_model=f"ft:{job['model']}:{self._account}:{suffix}:{job_id[-8:]}",
            trained_tokens=outcome["trained_tokens"],
            method={"type": "supervised", "supervised": decided},
            **decided,
        )

    def models(self) -> Iterator[tuple[Document, str]]:
        """Yield each job with a tuned model, and the MLflow run that keeps it."""
        for job in self.all():
            ours = read(self._place(job["id"]) / _OURS) if job["fine_tuned_model"] else {}
            if ours and not ours.get("is_deleted"):
                yield job, str(ours["run_id"])

    def model(self, name: str) -> tuple[Document, str]:
        """Return the job of a tuned model, and the MLflow run that keeps it.

        Raises:
            ApiError: where there is no such model.
        """
        for job, run_id in self.models():
            if job["fine_tuned_model"] == name:
                return job, run_id
        raise ApiError(
            404,
            f"The model `{name}` does not exist, is not tuned, or is not yours: tuned models alone "
            "answer and can be deleted.",
            param="model",
            code="model_not_found",
        )

    def forget_model(self, job_id: str) -> None:
        """Note that a job's model was deleted."""
        place = self._place(job_id) / _OURS
        write(place, read(place) | {"is_deleted": True})

    def _place(self, job_id: str) -> Path:
        return place_of(self.folder, "ftjob", job_id, "FineTuningJob")


def _link(file: Path, place: Path) -> None:
    try:
        place.hardlink_to(file)
    except OSError:  # not every file system has links
        shutil.copyfile(file, place)


def _state(job: Document, fault: str) -> ApiError:
    return ApiError(400, f"Job {job['id']} {fault}.", code="invalid_job_state")


def say_once(file: Path, message: str, level: str = "info") -> None:
    """Add a message to a job's list, unless a process that was stopped has done so."""
    if message not in [event["message"] for event in read_lines(file)]:
        add_event(file, message, level=level)


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
