"""What ends a search or a trial, as commands show it, and trials in processes of their own."""

import json
import time

import optuna

from pipeline.tasks.classification import Classification


def test_stopped_search_resumes_later(cli, tiny, runs):
    name = "hydra.sweeper.study_name=mine"
    stopped = cli("train", "-m", *tiny, "seed=1,2,3", name, "hydra.sweeper.budget.patience=1")
    assert stopped.code == 0, stopped.err
    assert "stopped: hydra.sweeper.budget.patience" in stopped.out
    assert runs("study")[0].data.tags["tunewright.state"] == "unfinished"
    time.sleep(0.5)  # a pause, which is no part of the study's duration
    resumed = cli("train", "-m", *tiny, "seed=1,2,3", name)
    assert len(runs("trial")) == 3
    (study,) = runs("study")
    assert study.data.tags["tunewright.state"] == "complete"
    took = study.data.metrics["time/run_seconds"]
    assert took < (study.info.end_time - study.info.start_time) / 1000 - 0.5
    assert f"time: {took:.1f} s in 2 starts (the latest: " in resumed.out
    listed = json.loads(cli("runs", "--format", "json").out)
    assert [row["run_seconds"] for row in listed if row["kind"] == "study"] == [took]


def test_a_trial_that_has_had_its_time_fails_alone(cli, tiny, runs):
    given = ("training.epochs=1,4000", "hydra.sweeper.trial_minutes=0.1")
    ended = cli("train", "-m", *(o for o in tiny if "epochs" not in o), *given)
    assert ended.code == 0, ended.err
    short, long = runs("trial")
    assert short.data.tags["tunewright.state"] == "complete"
    assert long.data.tags["tunewright.reason"].startswith("timeout: ")


def test_the_same_traceback_three_times_ends_a_search_and_is_shown(cli, tiny, runs, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such device")

    monkeypatch.setattr(Classification, "load_model", broken)
    ended = cli("train", "-m", *tiny, "seed=1,2,3,4,5,6")
    assert ended.code == 1
    assert len(runs("trial")) == 3
    assert "in broken" in ended.err
    assert runs("study")[0].data.tags["tunewright.state"] == "failed"


def test_limits_and_several_objectives_reach_the_study(cli, tiny, runs):
    goals = "evaluation.objective=[val/f1_macro@last,cost/train_seconds]"
    limit = "evaluation.constraints=['val/recall/pos >= 2']"
    ended = cli("train", "-m", *tiny, "seed=1,2", goals, limit, "hydra.sweeper.study_name=two")
    assert ended.code == 0, ended.err
    study = optuna.load_study(study_name="two", storage=_journal("mlruns/studies/two"))
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial, run in zip(study.trials, runs("trial"), strict=True):
        assert trial.values[0] == run.data.metrics["val/f1_macro"]
        assert trial.constraints["val/recall/pos >= 2"] > 0


def _journal(folder):
    backend = optuna.storages.journal.JournalFileBackend(f"{folder}/study.journal")
    return optuna.storages.JournalStorage(backend)


def test_a_study_of_another_store_is_another_study(cli, tiny, runs):
    cli("train", "-m", *tiny, "seed=1,2")
    ended = cli("train", "-m", *tiny, "seed=1,2", "tracking.uri=sqlite:///other.db")
    assert "done before" not in ended.out
    assert len(runs("trial")) == 2
