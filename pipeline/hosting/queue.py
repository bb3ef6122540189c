"""The queue: so many jobs at a time, each in a process of its own, the oldest first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipeline.common.errors import (
    ConfigError,
    DataError,
    ModelError,
    TunewrightError,
    amount,
)
from pipeline.common.secrets import masked_message
from pipeline.common.text import say
from pipeline.config.compose import literal
from pipeline.hosting.accounts import Account
from pipeline.hosting.errors import ApiError
from pipeline.hosting.job_process import JobSpec, carry_out
from pipeline.hosting.jobs import JobFile
from pipeline.hosting.limits import Limits
from pipeline.hosting.wire import Hyperparameters
from pipeline.search.workers.child import END_SECONDS, STOPPED, Child
from pipeline.search.workers.sizing import THREAD_VARIABLES, cores

log = logging.getLogger(__name__)

_CODES: Mapping[type[TunewrightError], str] = {
    DataError: "invalid_training_file",
    ModelError: "invalid_model",
    ConfigError: "invalid_hyperparameters",
}
_KEYS = {"training_file": "data.train", "validation_file": "data.validation"}
_CHAT = ("task=chat", "task.generate=false", "data=files")


@dataclass(frozen=True)
class Waiting:
    """A job in the queue."""

    account: Account
    job_id: str


class _Running:
    """A job that a slot carries out."""

    def __init__(self) -> None:
        self.child: Child | None = None  # None while it is started
        self.is_wanted = True

    def stop(self) -> None:
        """Have its process close its record and end; the slot, which waits, does the rest."""
        self.is_wanted = False
        if self.child is not None:
            self.child.process.terminate()
            late = threading.Timer(END_SECONDS, self.child.process.kill)
            late.daemon = True
            late.start()


class Queue:
    """Jobs that wait and jobs that run; a job is never in both, and runs once at a time."""

    def __init__(self, slots: int, limits: Limits) -> None:
        self._limits = limits
        self._waiting: list[Waiting] = []
        self._running: dict[str, _Running] = {}
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
            for running in self._running.values():
                running.stop()
            left = len(self._waiting) + len(self._running)
            self._changed.notify_all()
        for slot in self._slots:
            slot.join()
        if left:
            say(f"stopped; the next server here goes on with {amount(left, 'job')}.")

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
            self._waiting.append(Waiting(account, job_id))
            self._changed.notify_all()

    def take_out(self, job_id: str) -> None:
        """Take a job out that waits, and end one that runs."""
        with self._changed:
            self._waiting = [one for one in self._waiting if one.job_id != job_id]
            if job_id in self._running:
                self._running[job_id].stop()

    def _work(self, environment: Mapping[str, str]) -> None:
        while (one := self._next()) is not None:
            try:
                self._carry_out(one, environment)
            except Exception as error:  # no disk, no more processes
                _explain(one, error, ())
            finally:
                with self._changed:
                    del self._running[one.job_id]
                    self._changed.notify_all()  # it may wait again

    def _next(self) -> Waiting | None:
        with self._changed:
            while not self._is_over:
                for one in self._waiting:
                    if one.job_id not in self._running:  # else its process still ends
                        self._waiting.remove(one)
                        self._running[one.job_id] = _Running()
                        return one
                self._changed.wait()
            return None

    def _carry_out(self, one: Waiting, environment: Mapping[str, str]) -> None:
        jobs = one.account.jobs
        if not jobs.begin(one.job_id):
            return  # it was paused or cancelled meanwhile
        spec, files = self._spec(one)
        say(f"{one.job_id}: running")
        child, running = Child(carry_out, (spec,), environment), self._running[one.job_id]
        with self._changed:
            running.child = child
            if not running.is_wanted:
                running.stop()
        try:
            if child.join():
                with suppress(ApiError):  # cancelled at the last moment
                    jobs.trained(one.job_id, child.result)
                    say(f"{one.job_id}: succeeded")
            elif child.process.exitcode == STOPPED and running.is_wanted:
                self.add(one.account, one.job_id)  # Ctrl-C reaches it sooner than us
            elif running.is_wanted:
                _fail(one, "server_error", f"the process of the job {child.fate}.")
        except Exception as error:
            _explain(one, error, files)
        finally:
            child.end()

    def _spec(self, one: Waiting) -> tuple[JobSpec, Sequence[JobFile]]:
        """Return what a job's process is to do, and the files that it reads."""
        jobs = one.account.jobs
        job, (overrides, files) = jobs.get(one.job_id), jobs.origin(one.job_id)
        read = [f"{_KEYS[file.param]}={literal(str(file.place))}" for file in files]
        own = [f"model={job['model']}", f"seed={job['seed']}"]
        return JobSpec(
            one.job_id,
            [*_CHAT, *overrides, *read, *own],
            Hyperparameters(**job["hyperparameters"]),
            jobs.events_file(one.job_id),
            self._limits.rows,
        ), files


def _explain(one: Waiting, error: Exception, files: Sequence[JobFile]) -> None:
    """Fail a job with what its process raised, with its files by the owner's names."""
    text, param = masked_message(str(error)), None
    for file in files:
        if file.place.name in text:
            text = text.replace(str(file.place), file.name).replace(file.place.name, file.name)
            param = file.param
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), "server_error")
    if isinstance(error, DataError) and param:
        code = f"invalid_{param}"
    elif not isinstance(error, TunewrightError):
        log.error("%s", one.job_id, exc_info=error)
        text = f"{type(error).__name__}; the server's log says where."
    _fail(one, code, text, param)


def _fail(one: Waiting, code: str, message: str, param: str | None = None) -> None:
    error = {"code": code, "message": message, "param": param}
    with suppress(ApiError):  # it was cancelled
        one.account.jobs.change(
            one.job_id, status="failed", error=error, said=message, level="error"
        )
        say(f"{one.job_id}: failed: {message}")
