"""A search over a service, our own server, that is killed in the middle and started again."""

import json
import os
import signal
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from tests.support.chats import chats, write_chats
from tests.support.stores import artifact
from tests.support.tuning import ServerProcess, client_of, events_of, use_model
from tests.support.waiting import wait_until

KEY = "sk-of-the-search"


@pytest.fixture
def server(tmp_path, chatter):
    folder = tmp_path / "server"
    folder.mkdir()
    use_model(folder, chatter)
    with ServerProcess(folder, "--jobs", "2", "training.max_length=64") as server:
        yield server


def start(port):
    space = ("provider.n_epochs=4,12", "provider.learning_rate_multiplier=20,200")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "train", "-m", *space),
            *("provider=openai", f"provider.base_url=http://127.0.0.1:{port}/v1"),
            *("provider.model=chatter", "provider.batch_size=16", "provider.poll_seconds=0.2"),
            "provider.price={training: 1.0, input: 2.0, output: 3.0}",
            *("task=chat", "task.objective=val/rougeL", "task.generation.max_new_tokens=8"),
            *("data=files", "data.train=chat.jsonl"),
            *("hydra.sweeper.study_name=mine", "hydra.sweeper.n_jobs=2"),
        ],
        env={
            **os.environ,
            "OPENAI_API_KEY": KEY,
            "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path[:1]]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_killed_search_goes_on_with_its_jobs_and_pays_none_twice(server, working_folder, runs):
    write_chats(working_folder / "chat.jsonl", chats(150))
    client = client_of(server.port, KEY)

    def jobs():
        return list(client.fine_tuning.jobs.list())

    process = start(server.port)
    try:
        wait_until(lambda: len([j for j in jobs() if j.status == "running"]) == 2, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(server.port)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "4 of 4 trials done" in said
    every = jobs()
    assert len(every) == len({job.metadata["tunewright"] for job in every}) == 4
    assert {job.status for job in every} == {"succeeded"}
    assert len(list(client.files.list())) == 2

    store = MlflowClient(f"sqlite:///{working_folder}/mlruns/mlflow.db")
    trials = [r for r in runs("trial") if r.data.tags["tunewright.state"] == "complete"]
    assert {run.data.tags["tunewright.provider_job"] for run in trials} == {j.id for j in every}
    for run in trials:
        told = events_of(client, run.data.tags["tunewright.provider_job"])
        kept = json.loads(artifact(run, "job.json").read_text())["events"]
        assert [event["id"] for event in kept] == [event.id for event in told]
        metrics = [event.data for event in told if event.type == "metrics"]
        sent = [(one["step"], one["train_loss"]) for one in metrics if "train_loss" in one]
        points = store.get_metric_history(run.info.run_id, "service/train_loss")
        assert [(point.step, point.value) for point in points] == sent
        table = json.loads(artifact(run, "predictions.json").read_text())["data"]
        equal = [row[1][-1]["content"].strip() == row[2] for row in table]
        assert run.data.metrics["val/exact_match"] == pytest.approx(sum(equal) / len(equal))
