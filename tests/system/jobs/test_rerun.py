"""rerun in a process of its own: after its data changed, and from a server."""

import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

from pipeline.tracking.signature import KEY_VARIABLE
from tests.support.servers import mlflow_server
from tests.support.stores import forget

COMMAND = [sys.executable, "-m", "pipeline"]


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_rerun_of_trial_is_identical_until_its_data_changes(cli, tiny, runs, allow):
    Path("notes.txt").write_text("one", encoding="utf-8")
    git("init")
    git("add", "notes.txt")
    git("commit", "-m", "one")
    searched = cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.n_jobs=2")
    assert searched.code == 0, searched.err
    trial = runs("trial")[1]
    rerun = ("rerun", trial.info.run_id, "--verify", *allow)
    first = subprocess.run([*COMMAND, *rerun], capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "verdict: identical" in first.stdout
    assert "code        same" in first.stdout
    (made,) = runs("run")
    (trial,) = [t for t in runs("trial") if t.info.run_id == trial.info.run_id]
    assert made.data.tags["tunewright.rerun_of"] == trial.info.run_id
    assert trial.data.tags["tunewright.rerun_by"] == made.info.run_id
    assert made.data.tags["tunewright.verdict"].startswith("identical")

    Path("notes.txt").write_text("two", encoding="utf-8")
    git("commit", "-am", "two")
    second = cli(*rerun)
    assert second.code == 0, second.err
    assert "code        different: project's commit" in second.out
    assert "verdict: identical" in second.out

    rows = Path("reviews.jsonl").read_text(encoding="utf-8").replace("bad", "good", 1)
    Path("reviews.jsonl").write_text(rows, encoding="utf-8")
    forget()
    third = cli(*rerun)
    assert third.code == 1, third.err
    assert "verdict: different: data " in third.out
    assert "first train/loss at step" in third.out
    refused = cli(*rerun, "--strict")
    assert refused.code == 2
    assert "data, code not the same" in refused.err


def test_rerun_of_remote_run_works_from_an_empty_folder(
    cli, tiny, allow, tmp_path_factory, monkeypatch
):
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder) as address:
        where = f"tracking.uri={address}"
        assert cli("train", *tiny, where, "tracking.experiment=shared").code == 0
        client = MlflowClient(address)
        (experiment,) = client.search_experiments(filter_string="name = 'shared'")
        (run,) = client.search_runs([experiment.experiment_id])
        data = Path("reviews.jsonl").absolute()
        empty = tmp_path_factory.mktemp("empty")
        monkeypatch.chdir(empty)
        monkeypatch.setenv(KEY_VARIABLE, str(empty / "record.key"))  # as another account
        forget()
        refused = cli("rerun", run.info.run_id, where, *allow)
        assert refused.code == 2
        assert f"--allow {data.parent}" in refused.err
        ended = cli("rerun", run.info.run_id, where, *allow, "--allow", str(data.parent))
        assert ended.code == 0, ended.err
        assert "verdict: identical" in ended.out
        assert len(client.search_runs([experiment.experiment_id])) == 2
        assert not list(folder.glob("**/config.yaml.*"))
