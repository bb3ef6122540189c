"""The record on a real MLflow server, and what a stop leaves there."""

from pathlib import Path

from mlflow import MlflowClient

from tests.support.commands import Started
from tests.support.servers import mlflow_server
from tests.support.waiting import DEADLINE, wait_until


def test_a_search_is_recorded_on_a_server_and_keeps_one_model_there(cli, tiny, working_folder):
    with mlflow_server(working_folder) as address:
        ended = cli("train", "-m", *tiny, "seed=1,2,3,4", f"tracking.uri={address}")
        assert ended.code == 0, ended.err
        assert "View run" not in ended.out
        client = MlflowClient(address)
        (experiment,) = client.search_experiments(filter_string="name = 'tunewright'")
        runs = client.search_runs([experiment.experiment_id])
        (study,) = [r for r in runs if r.data.tags["tunewright.kind"] == "study"]
        trials = [r for r in runs if r.data.tags["tunewright.kind"] == "trial"]
        best = study.data.tags["tunewright.best_run_id"]
        (kept,) = client.search_logged_models([experiment.experiment_id])
        assert kept.source_run_id == best
        files = {found.path for found in client.list_logged_model_artifacts(kept.model_id)}
        assert {"MLmodel", "model.safetensors"} < files
        folders = [path.name for path in working_folder.rglob("models/m-*")]
        assert folders == [kept.model_id]  # on the server's disk
        assert len(trials) == 4


def test_terminated_run_is_failed_in_mlflow(tiny, runs):
    process = Started("train", *tiny, "training.epochs=500")
    try:
        wait_until(lambda: list(Path("mlruns").glob("artifacts/*/*/*")), process)
        wait_until(lambda: "train/loss" in runs("run")[0].data.metrics, process)
        process.terminate()
        assert process.wait(DEADLINE) == 130
    finally:
        process.kill()
    (run,) = runs("run")
    assert run.info.status == "FAILED"
    assert run.data.tags["tunewright.reason"].startswith("stopped")


def test_simultaneous_commands_make_one_store(tiny, runs):
    started = [Started("train", *tiny) for _ in range(2)]
    assert [process.wait(DEADLINE) for process in started] == [0, 0]
    assert len(runs("run")) == 2


def test_kill_while_database_is_made_leaves_a_working_store(cli, tiny, runs):
    process = Started("train", *tiny)
    wait_until(lambda: list(Path("mlruns").glob(".mlflow.db*")), process)
    process.kill()
    process.wait()
    assert not Path("mlruns/mlflow.db").exists()
    ended = cli("train", *tiny)
    assert ended.code == 0, ended.err
    assert len(runs("run")) == 1
    assert not list(Path("mlruns").glob(".*.making"))
