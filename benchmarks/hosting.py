"""Many clients at the tuning server at once: is a job lost, does memory grow, what is refused.

    python benchmarks/hosting.py                  # 50 clients, a minute
    python benchmarks/hosting.py --seconds 10

Each client is the official one, without its own retries. It uploads a file, creates a job of one
epoch on a tiny decoder, and asks for its state and events, for all jobs, and for replies of a model
that was trained before. Half of the jobs are cancelled. At the end every job that the server took
has to have ended, each in one run of MLflow at most.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import openai
import psutil
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.chats import TEXTS, chats, write_chats
from tests.support.tiny_models import CHATML, tiny_llama, tiny_tokenizer
from tests.support.tuning import ServerProcess, client_of, ended, use_model

NUMBERS = {"n_epochs": 1, "batch_size": 32, "learning_rate_multiplier": 1}
SETTINGS = ("training.max_length=64", "task.generation.max_new_tokens=8")


class Load:
    """What the clients asked, and what became of it."""

    def __init__(self) -> None:
        self.jobs: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def counted(self, what: str) -> Iterator[None]:
        """Count a request, and its refusal."""
        with self._lock:
            self.asked[what] += 1
        try:
            yield
        except openai.OpenAIError as error:
            name = getattr(error, "status_code", type(error).__name__)
            with self._lock:
                self.refused[f"{what}: {name}"] += 1

    def client(self, number: int, port: int, rows: Path, model: str, until: float) -> None:
        """Ask for things until a time, as one client."""
        client, chance = client_of(port), random.Random(number)
        while time.monotonic() < until:
            job = None
            with self.counted("file"), rows.open("rb") as content:
                file = client.files.create(file=content, purpose="fine-tune").id
                with self.counted("job"):
                    job = create(client, file)
                    self.jobs.add(job)
            for what in chance.choices(("state", "events", "list", "chat"), k=8):
                with self.counted(what):
                    ask(client, what, job, model)
            if job and chance.random() < 0.5:
                with self.counted("cancel"):
                    client.fine_tuning.jobs.cancel(job)


def create(client: openai.OpenAI, file: str) -> str:
    """Create a job, and return its id."""
    made = client.fine_tuning.jobs.create(
        model="chatter", training_file=file, hyperparameters=NUMBERS
    )
    return str(made.id)


def ask(client: openai.OpenAI, what: str, job: str | None, model: str) -> None:
    """Ask for one thing."""
    jobs = client.fine_tuning.jobs
    if what == "chat":
        messages = [{"role": "user", "content": "What is red?"}]
        client.chat.completions.create(model=model, messages=messages)
    elif what == "list" or job is None:
        _ = jobs.list(limit=20).data
    elif what == "events":
        _ = jobs.list_events(job).data
    else:
        jobs.retrieve(job)


def main() -> None:
    """Load the server, and print what became of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = tiny_tokenizer(TEXTS, begin=True, template=CHATML)
        use_model(folder, tiny_llama(folder / "chatter", TEXTS, tokenizer))
        rows = write_chats(folder / "rows.jsonl", chats(40))
        with ServerProcess(folder, *SETTINGS) as server:
            measure(server, Path(rows), given.clients, given.seconds, folder)


def measure(server: ServerProcess, rows: Path, clients: int, seconds: float, folder: Path) -> None:
    """Have clients ask, wait for all jobs, and print."""
    client, process = client_of(server.port), psutil.Process(server.process.pid)
    with rows.open("rb") as content:
        file = client.files.create(file=content, purpose="fine-tune").id
    model = ended(client, create(client, file)).fine_tuned_model
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    load, until = Load(), time.monotonic() + seconds
    asking = [
        threading.Thread(target=load.client, args=(i, server.port, rows, model, until))
        for i in range(clients)
    ]
    memory = [process.memory_info().rss]
    for thread in asking:
        thread.start()
    while any(thread.is_alive() for thread in asking):
        time.sleep(0.5)
        memory.append(process.memory_info().rss)
    states = Counter(ended(client, job, seconds=3600).status for job in load.jobs)
    runs = Counter(
        run.data.tags["tunewright.fine_tuning_job"]
        for run in MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db").search_runs(["1"])
    )
    quarter = len(memory) // 4
    first, last = median(memory[quarter : 2 * quarter]), median(memory[-quarter:])
    print(f"| {clients} clients, {seconds:g} s | |")
    print("|---|---:|")
    print(f"| requests | {sum(load.asked.values())} |")
    for what, count in sorted(load.refused.items()):
        print(f"| refused, {what} | {count} |")
    print(f"| jobs taken | {len(load.jobs)} |")
    for state, count in sorted(states.items()):
        print(f"| {state} | {count} |")
    print(f"| lost | {len(load.jobs) - sum(states.values())} |")
    print(f"| with more than one run | {sum(count > 1 for count in runs.values())} |")
    print(f"| resident set, second quarter | {first / 2**20:.0f} MiB |")
    print(f"| last quarter | {last / 2**20:.0f} MiB |")


if __name__ == "__main__":
    main()
