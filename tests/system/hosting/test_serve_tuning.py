"""``tunewright serve-tuning``, from upload to an answer, with the official client."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter

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
    with ServerProcess(folder, "--jobs", "2", *SETTINGS) as server:
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
    first = ask("What is red?").choices[0].message
    turns = [{"role": "user", "content": "1. What is red?"}, first]
    again = {"role": "user", "content": [{"type": "text", "text": "What is a dog?"}]}
    second = client.chat.completions.create(model=job.fine_tuned_model, messages=[*turns, again])
    assert second.usage.prompt_tokens > 20
    with pytest.raises(openai.BadRequestError, match="at most 252"):
        ask("What is red?", max_tokens=300)
    cut = ask("What is red?", max_tokens=1)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 1)
    drawn = [ask("What is red?", temperature=2, seed=i).choices[0].message.content for i in (1, 1)]
    assert drawn[0] == drawn[1]
    with pytest.raises(openai.BadRequestError, match="has more than") as error:
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


def test_jobs_are_paused_resumed_and_cancelled_while_they_run(client, folder):
    slow = {"n_epochs": 50, "batch_size": 1, "learning_rate_multiplier": 1}
    first, second = create(client, folder, **slow), create(client, folder, **slow)
    jobs = client.fine_tuning.jobs

    def steps(job):
        told = [event.data for event in events_of(client, job.id) if event.type == "metrics"]
        return [one["step"] for one in told if "full_valid_loss" in one]

    wait_until(lambda: steps(first) and steps(second))
    assert jobs.pause(first.id).status == "queued"
    assert jobs.resume(first.id).status == "queued"  # its process may still end
    assert jobs.cancel(second.id).status == "cancelled"
    before = steps(first)[-1]
    wait_until(lambda: steps(first)[-1] > before)
    assert jobs.retrieve(first.id).status == "running"
    jobs.cancel(first.id)
    wait_until(lambda: not_running(folder, first, second))
    assert {jobs.retrieve(job.id).status for job in (first, second)} == {"cancelled"}


def not_running(folder, *jobs):
    ids = {job.id for job in jobs}
    ours = [r for r in runs_of(folder) if r.data.tags.get("tunewright.fine_tuning_job") in ids]
    return [run.data.tags.get("tunewright.reason", "")[:7] for run in ours] == ["stopped"] * len(
        jobs
    )


def test_a_job_keeps_a_file_that_its_client_deletes(client, folder):
    job = create(client, folder, n_epochs=1, batch_size=16, learning_rate_multiplier=1)
    client.files.delete(job.training_file)
    assert ended(client, job.id).status == "succeeded"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_job_that_is_cut_off_goes_on_with_the_next_server(tmp_path, chatter, how):
    use_model(tmp_path, chatter)
    write_chats(tmp_path / "train.jsonl", chats(150))
    write_chats(tmp_path / "validation.jsonl", chats(20, seed=1))
    with ServerProcess(tmp_path, *SETTINGS) as server:
        client = client_of(server.port)
        numbers = {"batch_size": 8, "learning_rate_multiplier": 1}
        job, waiting = (create(client, tmp_path, n_epochs=n, **numbers) for n in (8, 1))

        def events():
            return [event for event in events_of(client, job.id) if event.type == "metrics"]

        def steps():
            return [e.data["step"] for e in events() if "full_valid_loss" in e.data]

        wait_until(lambda: len(steps()) >= 2)
        server.stop(how)
        server.start()
        assert ended(client, job.id).status == "succeeded"
        told = Counter((event.data["step"], *sorted(event.data)) for event in events())
        assert set(told.values()) == {1}
        assert steps() == sorted(steps())
        assert len(steps()) == 8
        assert ended(client, waiting.id).status == "succeeded"
        ours = [run for run in runs_of(tmp_path) if run.data.tags["tunewright.kind"] == "run"]
        made = Counter(run.data.tags["tunewright.fine_tuning_job"] for run in ours)
        assert made == {job.id: 1, waiting.id: 1}


def all_of(client, ids):
    return [job for job in client.fine_tuning.jobs.list(limit=100) if job.id in ids]


def test_many_clients_at_once_lose_no_job(client, folder, server):
    file = upload(client, folder / "train.jsonl")
    made, faults = [], []

    def one(number):
        mine = client_of(server.port)
        try:
            job = mine.fine_tuning.jobs.create(
                model="chatter",
                training_file=file,
                hyperparameters={"n_epochs": 1, "batch_size": 64, "learning_rate_multiplier": 1},
                metadata={"client": str(number)},
            )
            made.append(job.id)
            if number % 10:
                mine.fine_tuning.jobs.cancel(job.id)
        except openai.OpenAIError as error:
            faults.append(error)

    clients = [threading.Thread(target=one, args=(i,)) for i in range(50)]
    for client_thread in clients:
        client_thread.start()
    for client_thread in clients:
        client_thread.join()
    assert not faults
    assert len(set(made)) == 50
    states = {job.metadata["client"]: ended(client, job.id).status for job in all_of(client, made)}
    assert states == {str(i): "cancelled" if i % 10 else "succeeded" for i in range(50)}


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
