"""``tunewright serve-tuning``, from upload to an answer, with the official client."""

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import openai
import pytest
from mlflow import MlflowClient

from tests.support.chats import REPLIES, chats, write_chats
from tests.support.tuning import ServerProcess, client_of, ended, events_of, use_model
from tests.support.waiting import wait_until

SETTINGS = ("training.max_length=64", "task.generation.max_new_tokens=8", "schedule.warmup=0.1")
LEARNS = {"n_epochs": 12, "batch_size": 16, "learning_rate_multiplier": 200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, chatter):
    folder = tmp_path_factory.mktemp("server")
    use_model(folder, chatter)
    write_chats(folder / "train.jsonl", chats(150))
    write_chats(folder / "validation.jsonl", chats(20, seed=1))
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with ServerProcess(folder, *SETTINGS) as server:
        yield server


@pytest.fixture
def client(server):
    return client_of(server.port)


def upload(client, path):
    with path.open("rb") as file:
        return client.files.create(file=file, purpose="fine-tune").id


def create(client, folder, **numbers):
    return client.fine_tuning.jobs.create(
        model="chatter",
        training_file=upload(client, folder / "train.jsonl"),
        validation_file=upload(client, folder / "validation.jsonl"),
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": numbers}},
    )


def runs_of(folder):
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    every = [one.experiment_id for one in client.search_experiments()]
    return [run for one in every for run in client.search_runs([one])]


def test_a_script_of_the_service_trains_a_model_here_and_asks_it(client, folder):
    job = ended(client, create(client, folder, **LEARNS).id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model.startswith("ft:chatter:")
    (run,) = [run for run in runs_of(folder) if run.data.tags["tunewright.kind"] == "run"]
    assert run.data.tags["tunewright.fine_tuning_job"] == job.id
    told = [event.data for event in events_of(client, job.id) if event.type == "metrics"]
    losses = [one["full_valid_loss"] for one in told if "full_valid_loss" in one]
    assert losses[-1] < losses[0] / 2
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.metrics.full_valid_loss == pytest.approx(min(losses))
    assert checkpoint.metrics.full_valid_loss == pytest.approx(run.data.metrics["val/loss"])
    rows = (folder / "train.jsonl").read_text().splitlines()
    assert job.trained_tokens % 12 == 0
    assert job.trained_tokens / 12 > 10 * len(rows)

    def ask(question, **more):
        messages = [{"role": "user", "content": f"1. {question}"}]
        return client.chat.completions.create(model=job.fine_tuned_model, messages=messages, **more)

    replies = {question: ask(question).choices[0] for question in REPLIES}
    right = [replies[q].message.content == reply for q, reply in REPLIES.items()]
    assert sum(right) >= 3
    assert {one.finish_reason for one in replies.values()} == {"stop"}
    for question in REPLIES:
        *chunks, usage = ask(question, stream=True, stream_options={"include_usage": True})
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == replies[question].message.content
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert usage.usage == ask(question).usage
    cut = ask("What is red?", max_tokens=1)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 1)
    drawn = [ask("What is red?", temperature=2, seed=i).choices[0].message.content for i in (1, 1)]
    assert drawn[0] == drawn[1]
    with pytest.raises(openai.BadRequestError, match="are longer than") as error:
        ask("red " * 200)
    assert error.value.code == "context_length_exceeded"
    other = client_of(client.base_url.port, "sk-two")
    with pytest.raises(openai.NotFoundError):
        other.models.retrieve(job.fine_tuned_model)
    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        ask("What is red?")


def test_a_file_whose_lines_are_wrong_fails_its_job_by_line(client, folder, tmp_path):
    lines = (folder / "train.jsonl").read_text().splitlines()[:20]
    lines[4] = json.dumps({"messages": [{"role": "usr", "content": "Hi"}]})
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join(lines))
    file = upload(client, bad)
    made = client.fine_tuning.jobs.create(model="chatter", training_file=file)
    job = ended(client, made.id)
    assert (job.status, job.error.code) == ("failed", "invalid_training_file")
    assert "bad.jsonl:5: messages[0].role is 'usr'" in job.error.message
    assert str(folder) not in job.error.message
    last = events_of(client, job.id)[-1]
    assert (last.level, last.message) == ("error", job.error.message)


def test_what_is_auto_is_searched_in_a_study_of_the_job(client, folder):
    job = ended(client, create(client, folder, n_epochs=1, batch_size="auto").id, seconds=300)
    assert job.status == "succeeded", job.error
    decided = job.hyperparameters
    assert decided.n_epochs == 1
    trials = [run for run in runs_of(folder) if run.data.tags.get("tunewright.study") == job.id]
    best = min(
        (run for run in trials if run.data.tags["tunewright.kind"] == "trial"),
        key=lambda run: run.data.metrics.get("val/loss", float("inf")),
    )
    assert decided.batch_size == int(best.data.params["training.batch_size"])
    said = [event.message for event in events_of(client, job.id)]
    assert sum(message.startswith("Trial ") for message in said) == 6


def test_a_cancelled_job_ends_and_the_next_one_runs(client, folder):
    first = create(client, folder, n_epochs=50, batch_size=1, learning_rate_multiplier=1)
    second = create(client, folder, n_epochs=1, batch_size=16, learning_rate_multiplier=1)
    wait_until(lambda: any(e.type == "metrics" for e in events_of(client, first.id)))
    assert client.fine_tuning.jobs.cancel(first.id).status == "cancelled"
    assert ended(client, second.id).status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(first.id).status == "cancelled"


def test_a_job_that_a_kill_cut_off_goes_on_with_the_next_server(tmp_path, chatter):
    use_model(tmp_path, chatter)
    write_chats(tmp_path / "train.jsonl", chats(150))
    write_chats(tmp_path / "validation.jsonl", chats(20, seed=1))
    with ServerProcess(tmp_path, *SETTINGS) as server:
        client = client_of(server.port)
        numbers = {"n_epochs": 20, "batch_size": 4, "learning_rate_multiplier": 1}
        job, waiting = (create(client, tmp_path, **numbers) for _ in range(2))

        def steps():
            told = [e.data for e in events_of(client, job.id) if e.type == "metrics"]
            return [one["step"] for one in told if "full_valid_loss" in one]

        wait_until(lambda: len(steps()) >= 3)
        server.kill()
        server.start()
        assert ended(client, job.id).status == "succeeded"
        told = Counter(
            (e.data["step"], *sorted(e.data))
            for e in events_of(client, job.id)
            if e.type == "metrics"
        )
        assert set(told.values()) == {1}
        assert steps() == sorted(steps())
        assert len(steps()) == 20
        assert ended(client, waiting.id).status == "succeeded"
        ours = [run for run in runs_of(tmp_path) if run.data.tags["tunewright.kind"] == "run"]
        made = Counter(run.data.tags["tunewright.fine_tuning_job"] for run in ours)
        assert made == {job.id: 1, waiting.id: 1}


def test_many_clients_at_once_lose_no_job(client, folder, server):
    file = upload(client, folder / "train.jsonl")
    made, faults = [], []

    def one(number):
        mine = client_of(server.port)
        try:
            job = mine.fine_tuning.jobs.create(
                model="chatter", training_file=file, metadata={"client": str(number)}
            )
            made.append(job.id)
            mine.fine_tuning.jobs.cancel(job.id)
        except openai.OpenAIError as error:
            faults.append(error)

    clients = [threading.Thread(target=one, args=(i,)) for i in range(50)]
    for client_thread in clients:
        client_thread.start()
    for client_thread in clients:
        client_thread.join()
    assert not faults
    kept = {job.id: job.status for job in client.fine_tuning.jobs.list(limit=100)}
    assert len(set(made)) == 50
    assert {kept[job] for job in made} == {"cancelled"}


def test_a_second_server_in_the_folder_and_a_public_one_without_keys_are_refused(folder, server):
    del server
    for words, said in (
        (["--port", "0"], "another server uses this folder"),
        (["--host", "0.0.0.0"], "TUNEWRIGHT_API_KEYS"),
        (["training.epoch=1"], "Did you mean training.epochs"),
    ):
        command = [sys.executable, "-m", "pipeline", "serve-tuning", *words]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert ran.returncode == 2, ran.stderr
        assert said in ran.stderr
        assert Path(folder, "mlruns").is_dir()
