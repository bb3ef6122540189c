"""What the server does, whatever asks for it: files, jobs and models by account."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.common.errors import ConfigError, did_you_mean
from pipeline.common.private import make_file, make_folder
from pipeline.config.menu import about, choices
from pipeline.hosting.accounts import Account, Accounts
from pipeline.hosting.chat import Models
from pipeline.hosting.documents import Document
from pipeline.hosting.errors import invalid
from pipeline.hosting.jobs import OPEN, JobFile
from pipeline.hosting.limits import Limits
from pipeline.hosting.queue import Queue
from pipeline.hosting.wire import NewJob
from pipeline.jobs.place import store_at
from pipeline.jobs.warm_up import warm_up
from pipeline.tracking.kept_models import delete_model

FOLDER = "hosting"  # in that of the local store
_CHAT = ("task=chat", "data=files", "data.train=-")  # enough to compose a job's settings


class Service:
    """Files, jobs and tuned models of all accounts, in one folder that it has for itself."""

    def __init__(
        self,
        overrides: Sequence[str] = (),
        *,
        slots: int = 1,
        limits: Limits | None = None,
        keys: Sequence[str] = (),
    ) -> None:
        self.limits, self.has_keys = limits or Limits(), bool(keys)
        self._store = store_at([*_CHAT, *overrides])  # refuses what no job could be composed of
        folder = self._store.dir / FOLDER
        self.accounts = Accounts(folder, self.limits, keys)
        self.models = Models(self._store, self.limits)
        self._overrides = list(overrides)
        self._queue = Queue(slots, self.limits)
        self._folder, self._lock = folder, FileLock(folder / ".lock")

    def __enter__(self) -> Service:
        """Go on with the jobs that a former server left, and take new ones.

        Raises:
            ConfigError: where another server has the folder.
            TrackingError: where the store cannot be used.
        """
        self._store.connect()
        make_folder(self._folder)
        make_file(Path(self._lock.lock_file))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"{self._folder}: another server uses this folder; stop it, or give "
                "tracking.dir=… another one."
            ) from None
        warm_up()
        left = [(job, one) for one in self.accounts.all() for job in one.jobs.all()]
        for job, account in sorted(left, key=lambda pair: str(pair[0]["id"])):
            if job["status"] in OPEN and not job["is_paused"]:
                self._queue.add(account, job["id"])
        self._queue.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what runs; its jobs go on with the next server."""
        self._queue.stop()
        self._lock.release()

    def create_job(self, account: Account, asked: NewJob) -> Document:
        """Take a job.

        Raises:
            ApiError: for an unknown model or file, and where too many jobs wait.
        """
        known = choices("models")
        if asked.model.startswith("ft:"):
            raise invalid(
                f"{asked.model}: a tuned model is not tuned further here; give the one that it was "
                "made from.",
                "model",
            )
        if asked.model not in known:
            raise invalid(
                f"{asked.model}: there is no such model to tune.{did_you_mean(asked.model, known)} "
                "GET /v1/models lists them.",
                "model",
                "model_not_found",
            )
        if asked.hyperparameters and asked.given != asked.hyperparameters:
            raise invalid(
                "hyperparameters: differ from those of the method; give them in one place.",
                "hyperparameters",
            )
        given = {"training_file": asked.training_file, "validation_file": asked.validation_file}
        files = [
            JobFile(param, account.files.get(name, param)["filename"], account.files.content(name))
            for param, name in given.items()
            if name is not None
        ]
        self._queue.check_room()
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        job = account.jobs.create(asked, seed, self._overrides, files)
        self._queue.add(account, job["id"])
        return job

    def cancel(self, account: Account, job_id: str) -> Document:
        """End a job for good."""
        job = account.jobs.change(job_id, said="The job was cancelled", status="cancelled")
        self._queue.take_out(job_id)
        return job

    def pause(self, account: Account, job_id: str) -> Document:
        """Have a job wait until it is resumed, from the state that it has on disk."""
        job = account.jobs.change(
            job_id, said="The job was paused", paused=False, status="queued", is_paused=True
        )
        self._queue.take_out(job_id)
        return job

    def resume(self, account: Account, job_id: str) -> Document:
        """Put a paused job into the queue again."""
        job = account.jobs.change(job_id, said="The job was resumed", paused=True, is_paused=False)
        self._queue.add(account, job_id)
        return job

    def list_models(self, account: Account) -> list[Document]:
        """Return the models that can be tuned, and the account's own."""
        menu = [_model(name, 0, "tunewright") for name in choices("models")]
        return [*menu, *(_tuned(job, account) for job, _ in account.jobs.models())]

    def get_model(self, account: Account, name: str) -> Document:
        """Return a model."""
        if name in choices("models"):
            return _model(name, 0, "tunewright") | {"description": about(choices("models")[name])}
        return _tuned(account.jobs.model(name)[0], account)

    def delete_model(self, account: Account, name: str) -> Document:
        """Delete a tuned model; its run's record stays."""
        job, run_id = account.jobs.model(name)
        delete_model(self._store, run_id)
        account.jobs.forget_model(job["id"])
        self.models.forget(run_id)
        return {"id": name, "object": "model", "deleted": True}


def _tuned(job: Document, account: Account) -> Document:
    return _model(job["fine_tuned_model"], job["finished_at"], account.name)


def _model(name: str, created: int, owner: str) -> Document:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
