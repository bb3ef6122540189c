"""The fine-tuning server, and OpenAI's own client at it."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import uvicorn
from openai import OpenAI, OpenAIError

from pipeline.hosting.app import make_app
from tests.support.servers import free_port
from tests.support.waiting import wait_until

ENDED = ("succeeded", "failed", "cancelled")


def client_of(port: int, key: str = "sk-one") -> OpenAI:
    """Return a client that takes only replies of the documented shapes, and asks once."""
    return OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key=key,
        max_retries=0,
        _strict_response_validation=True,
    )


def is_up(port: int) -> bool:
    try:
        client_of(port).models.list()
    except OpenAIError as error:
        return getattr(error, "status_code", None) == 401
    return True


@contextmanager
def served(service):
    """Serve in a thread of this process; yield the port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(make_app(service), port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    with service:
        thread.start()
        try:
            wait_until(partial(is_up, port))
            yield port
        finally:
            server.should_exit = True
            thread.join()


def use_model(folder: Path, checkpoint: Path, name: str = "chatter") -> None:
    """Make a model one of the menu of programs that run in a folder."""
    menu = folder / "conf" / "model"
    menu.mkdir(parents=True)
    keys = "revision: null\ntrust_remote_code: null\nfrom_config: null\ntokenizer: null\n"
    (menu / f"{name}.yaml").write_text(f"checkpoint: {checkpoint}\n{keys}architecture: llama\n")


class ServerProcess:
    """``tunewright serve-tuning`` in a folder; started again, it goes on at the same port."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._folder, self._words, self.port = folder, words, free_port()
        self.process: subprocess.Popen | None = None
        self._log = (folder / "server.log").open("ab")

    def start(self) -> None:
        command = [sys.executable, "-m", "pipeline", "serve-tuning", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *self._words],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path[:1]])},
            stderr=self._log,
            start_new_session=True,
        )
        wait_until(partial(is_up, self.port), self.process)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it with all its processes: as a power failure would, or Ctrl-C."""
        os.killpg(self.process.pid, how)
        self.process.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        with suppress(ProcessLookupError):
            self.stop()
        self._log.close()


def ended(client: OpenAI, job_id: str, seconds: float = 120.0):
    """Wait for a job, and return it."""
    latest = time.monotonic() + seconds
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in ENDED:
        assert time.monotonic() < latest, job
        time.sleep(0.2)
    return job


def events_of(client: OpenAI, job_id: str):
    """Return all events of a job, the oldest first."""
    return list(client.fine_tuning.jobs.list_events(job_id, limit=7))[::-1]
