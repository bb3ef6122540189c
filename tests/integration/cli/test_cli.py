"""The command line itself: where overrides may stand, and what each verb leaves."""

import json
import re
from pathlib import Path

import pytest

from pipeline.analysis import preflight
from pipeline.common.session import session
from pipeline.tracking import Record
from pipeline.tracking.verdict import TOLERANCE
from tests.support.stores import artifact


def test_overrides_may_stand_on_both_sides_of_an_option(cli, tiny, runs):
    assert cli("train", *tiny[:3], "-m", *tiny[3:], "seed=1,2").code == 0
    assert len(runs("trial")) == 2


def test_a_search_cannot_be_only_shown(cli):
    with pytest.raises(SystemExit, match="2"):
        cli("train", "-m", "--cfg", "job", "seed=1,2")


def test_best_shows_where_the_model_lies(cli, tiny):
    given = (*tiny, "tracking.dir='my runs'")
    cli("train", "-m", *given, "seed=1,2", "hydra.sweeper.study_name=mine")
    (shown,) = [
        line.removeprefix("model").strip()
        for line in cli("best", "mine", "tracking.dir='my runs'").out.splitlines()
        if line.startswith("model")
    ]
    assert (Path(shown) / "config.json").is_file()


def test_best_shows_all_that_was_searched(cli, tiny):
    cli("train", "-m", *tiny, "seed=1,2", "schedule=linear,cosine")
    shown = cli("best", "sweep").out
    assert re.search(r"^ +seed = [12]$", shown, re.M)
    assert re.search(r"^ +schedule = (linear|cosine)$", shown, re.M)


@pytest.mark.parametrize("name", ["job%20x", "q?r", "a#b"])
def test_a_working_folder_may_be_called_as_a_url_may_not(cli, tiny, name, monkeypatch):
    Path("job x").mkdir()
    Path(name).mkdir()
    outside = set(Path().rglob("*"))
    monkeypatch.chdir(name)
    assert cli("train", *tiny).code == 0
    assert len(json.loads(cli("runs", "--format", "json").out)) == 1
    assert cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=s").code == 0
    assert cli("best", "s").code == 0
    monkeypatch.chdir("..")
    new = set(Path().rglob("*")) - outside
    assert all(path.is_relative_to(name) for path in new)
    assert Path(name, "mlruns", "mlflow.db") in new


def test_asking_for_a_study_makes_no_store(cli):
    assert cli("best", "nothing").code == 2
    assert not Path("mlruns").exists()


def test_a_deleted_experiment_is_refused(cli, tiny, runs):
    cli("train", *tiny)
    (run,) = runs("run")
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{Path.cwd() / 'mlruns' / 'mlflow.db'}").delete_experiment(
        run.info.experiment_id
    )
    session().clear()
    ended = cli("train", *tiny)
    assert ended.code == 2
    assert "tracking.experiment=tunewright: this experiment was deleted" in ended.err


def test_a_record_that_could_not_be_written_is_no_complete_one(cli, tiny, runs, monkeypatch):
    monkeypatch.setattr(Record, "table", lambda self, *_: self.metrics({"bad:name?": 1.0}))
    with pytest.raises(Exception, match="bad:name"):
        cli("train", *tiny)
    (run,) = runs("run")
    assert run.info.status == "FAILED"
    assert run.data.tags["tunewright.state"] == "failed"
    assert "Traceback" in artifact(run, "train.log").read_text()


def stop(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "stopped. Run `tunewright resume RUN_ID` to resume."),
        (["training.checkpoint_every=null"], "stopped."),
        (["-m", "seed=1,2"], "stopped. Run the same command to resume."),
        (["-m", "seed=1,2", "--dry-run"], "stopped."),
    ],
)
def test_a_stopped_command_says_how_to_resume(cli, tiny, monkeypatch, given, said, runs):
    monkeypatch.setattr("pipeline.jobs.single.run", stop)
    monkeypatch.setattr("hydra._internal.hydra.Hydra.multirun", stop)
    ended = cli("train", *tiny, *given)
    run_ids = [run.info.run_id for run in runs("run")] if "-m" not in given else []
    said = said.replace("RUN_ID", *run_ids) if run_ids else said
    assert (ended.code, ended.err) == (130, f"tunewright: {said}\n")


@pytest.mark.parametrize("given", [["best", "mine"], ["runs"], ["train"], ["sweep", "asha"]])
def test_a_command_stopped_before_work_says_nothing_of_resuming(cli, monkeypatch, given):
    monkeypatch.setattr("pipeline.config.compose.compose", stop)
    ended = cli(*given)
    assert (ended.code, ended.err) == (130, "tunewright: stopped.\n")


@pytest.mark.parametrize("given", [[], ["--dry-run"]])
def test_data_and_model_are_checked_once(cli, tiny, monkeypatch, given):
    calls = []
    monkeypatch.setattr(preflight, "check_inputs", calls.append)
    assert cli("train", *tiny, *given).code == 0
    assert len(calls) == 1


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "much"])
def test_a_tolerance_is_a_finite_number(cli, capsys, given):
    with pytest.raises(SystemExit, match="2"):
        cli("rerun", "0" * 32, "--tolerance", given)
    assert f"--tolerance: {given}: expected a finite number" in capsys.readouterr().err


def test_the_help_names_the_tolerance_that_is_used(cli, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli("rerun", "--help")
    assert f"default {TOLERANCE:g}" in " ".join(capsys.readouterr().out.split())
