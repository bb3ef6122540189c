"""The command line itself: where overrides may stand, and what each verb leaves."""

from pathlib import Path

import pytest
from conftest import artifact

from pipeline.tracking import Record, open_store


def test_overrides_may_stand_on_both_sides_of_an_option(cli, tiny, runs):
    assert cli("train", *tiny[:3], "-m", *tiny[3:], "seed=1,2").code == 0
    assert len(runs("trial")) == 2


def test_a_search_cannot_be_only_shown(cli):
    with pytest.raises(SystemExit, match="2"):
        cli("train", "-m", "--cfg", "seed=1,2")


def test_best_shows_where_the_model_lies(cli, tiny):
    given = (*tiny, "tracking.dir='my runs'")
    cli("train", "-m", *given, "seed=1,2", "hydra.sweeper.study_name=mine")
    (shown,) = [
        line.removeprefix("model").strip()
        for line in cli("best", "mine", "tracking.dir='my runs'").out.splitlines()
        if line.startswith("model")
    ]
    assert (Path(shown) / "config.json").is_file()


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
    open_store.cache_clear()
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
