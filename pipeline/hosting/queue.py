"""The queue: so many jobs at a time, each in a process of its own, the oldest first."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.common.errors import ConfigError, DataError, ModelError, TunewrightError
from pipeline.common.secrets import masked_message
from pipeline.config.compose import literal
from pipeline.hosting.accounts import Account
from pipeline.hosting.documents import Document
from pipeline.hosting.errors import ApiError
from pipeline.hosting.job_process import JobSpec, carry_out
from pipeline.hosting.jobs import OPEN, numbers_of
from pipeline.hosting.limits import Limits
from pipeline.search.workers.child import END_SECONDS, Child
from pipeline.search.workers.sizing import THREAD_VARIABLES, cores

log = logging.getLogger(__name__)

_CODES = {DataError: "invalid_training_file", ModelError: "invalid_model", ConfigError: "invalid"}


@dataclass(frozen=True)
class _Waiting:
    account: Account
    job_id: str


class Queue:
    """Jobs that wait and jobs that run."""

    def __init__(self, overrides: Sequence[str], slots: int, limits: Limits) -> None:
        self._overrides, self._limits = overrides, limits
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[str, Child] = {}
        self._changed = threading.Condition()
        self._is_over = False
        threads = dict.fromkeys(THREAD_VARIABLES, str(max(1, cores() // max(1, slots))))
        self._slots = [
            threading.Thread(target=self._work, args=(threads,), daemon=True) for _ in range(slots)
        ]

    def start(self) -> None:
        """Begin to carry out jobs."""
        for slot in self._slots:
            slot.start()

    def stop(self) -> None:
        """End what runs; the jobs stay as they are, to be resumed by the next server."""
        with self._changed:
            self._is_over = True
            running = list(self._running.values())
            self._changed.notify_all()
        for child in running:
            _stop(child)
        for slot in self._slots:
            slot.join()

    def check_room(self) -> None:
        """Refuse another job where too many wait.

        Raises:
            ApiError: with status 429.
        """
        with self._changed:
            if len(self._waiting) + len(self._running) >= self._limits.waiting_jobs:
                raise ApiError(
                    429,
                    f"{self._limits.waiting_jobs} jobs wait or run already, the most that this "
                    "server takes; create this one when some have ended.",
                    code="rate_limit_exceeded",
                )

    def add(self, account: Account, job_id: str) -> None:
        """Put a job at the end."""
        with self._changed:
            self._waiting.append(_Waiting(account, job_id))
            self._changed.notify()

    def take_out(self, job_id: str) -> None:
        """Take a job out that waits, and end one that runs."""
        with self._changed:
            self._waiting = deque(one for one in self._waiting if one.job_id != job_id)
            child = self._running.get(job_id)
        if child is not None:
            _stop(child)

    def _work(self, environment: dict[str, str]) -> None:
        while (one := self._next()) is not None:
            try:
                self._carry_out(one, environment)
            except Exception:  # a job must not take its slot with it
                log.exception("%s", one.job_id)

    def _next(self) -> _Waiting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_over)
            return None if self._is_over else self._waiting.popleft()

    def _carry_out(self, one: _Waiting, environment: dict[str, str]) -> None:
        jobs = one.account.jobs
        try:
            job = jobs.change(one.job_id, only=("queued", "running"), status="running")
            spec = self._spec(one.account, job)
        except ApiError as error:  # cancelled, or its file is deleted meanwhile
            log.info("%s: %s", one.job_id, error)
            self._fail(one, "invalid_training_file", str(error))
            return
        with self._changed:
            child = self._running[one.job_id] = Child(carry_out, (spec,), environment)
        try:
            if child.join():
                jobs.trained(one.job_id, child.result)
                jobs.say(one.job_id, "The job has successfully completed")
            elif jobs.get(one.job_id)["status"] == "running" and not self._is_over:
                self._fail(one, "server_error", f"the process of the job {child.fate}.")
        except TunewrightError as error:
            self._fail(one, _CODES.get(type(error), "invalid"), self._told(one.account, job, error))
        except Exception as error:
            log.exception("%s", one.job_id)
            self._fail(one, "server_error", f"{type(error).__name__}: {error}")
        finally:
            with self._changed:
                del self._running[one.job_id]
            child.end()

    def _fail(self, one: _Waiting, code: str, message: str) -> None:
        jobs = one.account.jobs
        if jobs.get(one.job_id)["status"] not in OPEN or self._is_over:
            return
        param = "training_file" if code == "invalid_training_file" else None
        error = {"code": code, "message": message, "param": param}
        jobs.change(one.job_id, status="failed", error=error)
        jobs.say(one.job_id, message, level="error")

    def _spec(self, account: Account, job: Document) -> JobSpec:
        files = account.files
        train = files.content(job["training_file"], "training_file")
        read = [f"data.train={literal(str(train))}"]
        if job["validation_file"]:
            validation = files.content(job["validation_file"], "validation_file")
            read.append(f"data.validation={literal(str(validation))}")
        return JobSpec(
            job["id"],
            [
                "task=chat",
                "task.generate=false",
                "data=files",
                *self._overrides,
                *read,
                f"model={job['model']}",
                f"seed={job['seed']}",
            ],
            numbers_of(job),
            account.jobs.events_file(job["id"]),
            self._limits.rows,
        )

    def _told(self, account: Account, job: Document, error: Exception) -> str:
        """Return what an error says, with the files as their owner calls them."""
        text = masked_message(str(error))
        for file_id in filter(None, (job["training_file"], job["validation_file"])):
            name, place = account.files.get(file_id)["filename"], account.files.content(file_id)
            text = text.replace(str(place), name).replace(place.name, name)
        return text


def _stop(child: Child) -> None:
    """Have a job's process close its record and end; its slot, which waits, does the rest."""
    child.process.terminate()
    late = threading.Timer(END_SECONDS, child.process.kill)
    late.daemon = True
    late.start()
