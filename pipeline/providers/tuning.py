"""A fine-tuning job: begun once, watched to its end, cancelled where its run is ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pipeline.common.private import make_file, make_folder
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
LISTED_SECONDS = 30.0  # in which a service lists a job whose answer was lost
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
        if job.state != "succeeded":
            self._attached.forget()
            self.is_paid = job.state == "cancelled"
            raise self._failure(job)
        if not job.model:
            raise ServiceError("refused", f"job {job.id}: it succeeded, and names no model to ask.")
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
                found = patience(partial(self._service.find_job, self.mark))
                job_id = found.id if found else None
            if job_id is not None:
                if patience(partial(self._service.job, job_id)).state == "succeeded":
                    return
                patience(partial(self._service.cancel, job_id))
                log.info("job %s is cancelled", job_id)
            self._attached.forget()
        except ServiceError as error:
            log.warning(
                "job %s may be at work, and could not be cancelled: %s. `tunewright doctor "
                "provider=%s` lists it.",
                *(job_id or f"with the mark {self.mark}", error, self._planned.config.name),
            )

    def _briefly(self) -> Patience:
        minutes = min(_CANCEL_MINUTES, self._planned.config.outage_minutes)
        config = replace(self._planned.config, outage_minutes=minutes)
        return Patience(config, lambda: None, busy=60 * minutes)

    @property
    def mark(self) -> str:
        """What the job is found by."""
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

        held = FileLock(make_file(lock))
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
        order = Order(self.mark, files, self._seed)
        may_be_there = self._attached.state.asked
        self._attached.keep(files=dict(files), asked=True)

        def request() -> Job:
            nonlocal may_be_there
            if found := self._listed(order.mark, LISTED_SECONDS if may_be_there else 0.0):
                log.info("job %s was begun before", found.id)
                return found
            try:
                return self._service.create(order)
            except ServiceError as error:
                may_be_there |= error.fault == "outage"  # the answer alone may be lost
                raise

        try:
            return self._patience(request)
        except ServiceError as error:
            if not (error.passes or may_be_there):
                self._attached.keep(asked=False)
            raise

    def _listed(self, mark: str, seconds: float) -> Job | None:
        """Look for a job with this mark, which a service may list only after a while."""
        end = time.monotonic() + seconds
        while (found := self._service.find_job(mark)) is None and time.monotonic() < end:
            self._patience.wait(min(3.0, seconds))
        return found

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
            if self._service.find_job(self.mark) is not None:  # a service may know it later
                raise ServiceError("outage", str(error)) from error
            raise ServiceError(
                "gone",
                f"{error}. It was there: it was deleted, or the key is of another account.",
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
