"""A fine-tuning job: begun once, watched to its end, cancelled where its run is ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pipeline.common.private import make_folder
from pipeline.common.timing import booked
from pipeline.providers.patience import Patience
from pipeline.providers.rows import named_rows, upload
from pipeline.providers.service import Event, Job, Order, ServiceError
from pipeline.training.outcome import RUN_LOGGER

if TYPE_CHECKING:
    from pipeline.providers.attachment import Attachment
    from pipeline.providers.plan import Plan
    from pipeline.tracking import Record

log = logging.getLogger(RUN_LOGGER)

SERVICE = "service/"  # before the names of metrics that the service computed
_CANCEL_MINUTES = 1.0  # for which cancelling is tried


@dataclass(frozen=True)
class Tuned:
    """A job that succeeded."""

    job: Job
    model: str  # the tuned one
    files: Mapping[str, str]  # ids of the uploaded splits
    events: Sequence[Event]  # all, in their order

    @property
    def step(self) -> int:
        """The last step that the service told of."""
        return max((event.step for event in self.events), default=0)


class Tuning:
    """One run's job.

    Args:
        planned: what is to be done.
        patience: waits for the service.
        attached: what an earlier try of the run knew of its job.
        record: of the run; it has the job's id as soon as there is one, and its metrics as they
            come.
        seed: of the job.
    """

    def __init__(
        self, planned: Plan, patience: Patience, attached: Attachment, record: Record, seed: int
    ) -> None:
        self._planned, self._service, self._patience = planned, planned.service, patience
        self._attached, self._record, self._seed = attached, record, seed
        self._events: list[Event] = []
        self.is_paid = attached.state.asked  # as far as is known
        self.has_model = False  # whether the job has made one

    @booked("service")
    def run(self) -> Tuned:
        """Begin the job, or find it, and wait for its end.

        Raises:
            ServiceError: where it fails, in the service's words; where it is gone; where the
                service is away for too long. The job goes on then, and the next try finds it.
        """
        if self._attached.state.job is not None:
            log.info("job %s goes on: it was begun before", self._attached.state.job)
        else:
            files = self._uploaded()
            self._attached.keep(files=files, job=self._begun(files).id)
        job_id = self._attached.state.job
        assert job_id is not None
        self.is_paid = True
        self._record.tag(provider_job=job_id)
        job = self._watched(job_id)
        if job.state != "succeeded" or not job.model:
            self._attached.forget()
            self.is_paid = job.state == "cancelled"
            raise self._failure(job)
        self.has_model = True
        self._record.tag(tuned_model=job.model)
        return Tuned(job, job.model, self._attached.state.files, self._events)

    def cancel(self) -> None:
        """End the job of a run that is not to go on; one that has succeeded is left as it is."""
        state, patience = self._attached.state, self._briefly()
        if not state.asked:
            return
        job_id = state.job
        try:
            if job_id is None:
                found = patience(partial(self._service.find_job, self._mark))
                job_id = found.id if found else None
            if job_id is not None:
                if patience(partial(self._service.job, job_id)).state == "succeeded":
                    return
                patience(partial(self._service.cancel, job_id))
                log.info("job %s is cancelled", job_id)
            self._attached.forget()
        except ServiceError as error:
            config = self._planned.config
            log.warning(
                "job %s could not be cancelled, and may be at work: %s. `tunewright doctor --fix "
                "provider=%s --delete %s` cancels it.",
                *(job_id, error, config.name, job_id),
            )

    def _briefly(self) -> Patience:
        minutes = min(_CANCEL_MINUTES, self._planned.config.outage_minutes)
        return Patience(replace(self._planned.config, outage_minutes=minutes), lambda: None)

    @property
    def _mark(self) -> str:
        return f"{self._record.run_id}-{self._attached.state.tries}"

    def _uploaded(self) -> dict[str, str]:
        """Upload the files that the service does not have; one process of this store at a time."""
        folder, lock = self._attached.folder, self._attached.folder.parent.with_name("upload.lock")
        make_folder(folder)

        def send(path: Path) -> str:
            found = self._service.find_file(path.name)  # a request before may have sent it
            if found is None:
                log.info("upload of %s, %d bytes", path.name, path.stat().st_size)
            return found or self._service.upload(path)

        held = FileLock(lock)
        while True:
            try:
                with held.acquire(timeout=0):
                    return upload(
                        self._planned.files, folder, lambda p: self._patience(partial(send, p))
                    )
            except Timeout:
                self._patience.wait(0.2)

    def _begun(self, files: Mapping[str, str]) -> Job:
        """Begin the job, unless an earlier try of the run, or request of this one, has begun it."""
        order = Order(self._mark, files, self._seed)
        self._attached.keep(files=dict(files), asked=True)

        def request() -> Job:
            found = self._service.find_job(order.mark)
            if found is not None:
                log.info("job %s was begun before", found.id)
            return found or self._service.create(order)

        try:
            return self._patience(request)
        except ServiceError as error:
            if not error.passes:  # there is none
                self._attached.keep(asked=False)
            raise

    def _watched(self, job_id: str) -> Job:
        """Log what the job tells, until it is over."""
        log.info("job %s", job_id)
        while True:
            job = self._patience(partial(self._look, job_id))
            if job.is_over:
                return job
            self._patience.wait(self._planned.config.poll_seconds)

    def _look(self, job_id: str) -> Job:
        try:
            job = self._service.job(job_id)
        except ServiceError as error:
            if error.fault != "gone":
                raise
            if self._service.find_job(self._mark) is not None:  # a service may know it later
                raise ServiceError("outage", str(error)) from error
            raise ServiceError(
                "gone",
                f"{error}. It was there: it was deleted, or the key is of another account. To "
                f"begin a new job delete {self._attached.folder}.",
            ) from error
        known = {event.id for event in self._events}
        for event in self._service.events(job_id, known):
            self._events.append(event)
            log.info("%s", event.message)
            named = {f"{SERVICE}{name}": value for name, value in event.metrics.items()}
            self._record.metrics(named, event.step)
        return job

    def _failure(self, job: Job) -> ServiceError:
        """Return why a job gave no model; the rows that it names are ours."""
        if job.state == "cancelled":
            return ServiceError(
                "refused", f"job {job.id}: it was cancelled. The next try begins a new one."
            )
        said = job.failure or "the service gives no reason"
        rows = named_rows(said, self._planned.splits.by_name[job.split])
        return ServiceError(
            job.fault or "refused", f"job {job.id}: {said}{f' ({rows})' if rows else ''}"
        )
