"""Kept models behind MLflow servers: served, and fetched from a registry."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import mlflow
import pytest
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server

from tests.support.rows import rows, write_rows
from tests.support.served import INPUTS, TASKS, assert_same, predicted, records_of, run_of
from tests.support.servers import answers, free_port, mlflow_server
from tests.support.stores import Made, artifact
from tests.support.waiting import DEADLINE, wait_until


class Server:
    """``mlflow models serve`` as a user gives it, without a new environment."""

    def __init__(self, model: str, log: Path, uri: str = "") -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        self._log = log
        bin_folder = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": uri,
            "OMP_NUM_THREADS": "1",
        }
        command = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command, "-p", self.address.rpartition(":")[2]],
                env=environment,
                cwd=log.parent,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        try:
            wait_until(partial(answers, f"{self.address}/ping"), self._process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._log.read_text()[-3000:]}") from None

    def ask(self, body: dict) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"{self.address}/invocations",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(DEADLINE)


@pytest.fixture(scope="module")
def server(made: Made, tmp_path_factory):
    """A server of the classification's model."""
    folder = tmp_path_factory.mktemp("server")
    # Served from a copy without the run's store: the model stands alone.
    copied = shutil.copytree(artifact(run_of(made, TASKS[0]), "model"), folder / "model")
    started = Server(str(copied), folder / "log")
    try:
        started.wait()
        yield started
    finally:
        started.stop()


@pytest.fixture
def ask(task, made, request, tmp_path, monkeypatch):
    """What asks a task's served model: one in a process, the others MLflow's server in this one."""
    if task == TASKS[0]:
        return request.getfixturevalue("server").ask
    # MLflow puts the model's copy of our modules first, which new processes would import.
    monkeypatch.setattr(sys, "path", sys.path[:])
    copied = shutil.copytree(artifact(run_of(made, task), "model"), tmp_path / "model")
    client = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(copied))))

    def post(body: dict) -> tuple[int, dict]:
        answer = client.post("/invocations", json=body)
        return answer.status_code, answer.json()

    return post


@pytest.mark.parametrize("task", TASKS)
def test_a_served_model_answers_as_predict_does(task, made, ask, cli):
    records = records_of(task)[:20]
    bare = [{name: record[name] for name in INPUTS[task]} for record in records]
    if task == "chat":
        bare = [{"messages": record["messages"][:-1]} for record in bare]
    write_rows(Path("asked.jsonl"), records)
    run_id = run_of(made, task).info.run_id
    asked = cli("predict", run_id, made.where, "--input", "asked.jsonl", "--output", "got.jsonl")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out.startswith("got.jsonl: 20 rows in ")
    assert asked.out.endswith(" rows/s\n")
    found = predicted(Path("got.jsonl"))
    assert [line.pop("id") for line in found] == [f"asked.jsonl:{i}" for i in range(1, 21)]
    assert len({json.dumps(line["prediction"]) for line in found}) > 1  # it is no constant
    status, answer = ask({"dataframe_records": bare})
    assert status == 200, answer
    assert_same(answer["predictions"], found)
    columns = list(bare[0])
    table = {"columns": columns, "data": [[record[c] for c in columns] for record in bare]}
    assert_same(ask({"dataframe_split": table})[1]["predictions"], found)


def test_server_refuses_invalid_record_with_its_place(server):
    status, answer = server.ask({"dataframe_records": [{"review": "fine"}, {"review": " "}]})
    assert status == 400
    assert "record 2: no text: found ' ' in column 'review'" in answer["message"]
    assert server.ask({"dataframe_records": [{"text": "fine"}]})[0] == 400


def test_a_model_on_a_server_is_fetched_from_it(cli, tiny, working_folder):
    write_rows(Path("in.jsonl"), rows(10))
    with mlflow_server(working_folder) as address:
        where = f"tracking.uri={address}"
        trained = cli("train", *tiny, where)
        assert trained.code == 0, trained.err
        run_id = trained.out.split()[-1]
        assert cli("register", run_id, "there", where).code == 0
        for i, name in enumerate((run_id, "models:/there/1")):
            files = ["--input", "in.jsonl", "--output", f"{i}.jsonl"]
            done = cli("predict", name, where, *files)
            assert (done.code, done.err) == (0, "")
    assert len(predicted(Path("0.jsonl"))) == 10
    assert Path("0.jsonl").read_text() == Path("1.jsonl").read_text()
