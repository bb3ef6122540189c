"""A trial of our own runs: it has a record whatever becomes of it."""

import shutil
import threading
from pathlib import Path

import pytest

from pipeline.run import run
from pipeline.search.study.trials import state_of
from tests.support.studies import trials_in

LOSSES = {
    "emptied": lambda journal: journal.write_bytes(b""),
    "gone": lambda journal: journal.unlink(),
    "gone with its folder": lambda journal: shutil.rmtree(journal.parent),
}


def test_trial_whose_combination_is_refused_ends_its_record_with_the_reason(cli, tiny, runs):
    space = ["schedule=warmup_stable_decay", "schedule.warmup=0.1,0.9", "schedule.decay=0.05,0.5"]
    assert cli("train", "-m", *tiny, *space).code in (0, 1)
    trials = runs("trial")
    states = [trial.info.status for trial in trials]
    assert sorted(states) == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]
    refused = trials[states.index("FAILED")]
    assert refused.data.params["schedule.decay"] == "0.5"
    assert "schedule.warmup=0.9" in refused.data.tags["tunewright.reason"]


def test_a_checkpoint_that_is_not_there_is_refused_before_rows_are_read(cli, tiny):
    Path("reviews.jsonl").write_text("these are none", encoding="utf-8")
    refused = cli("train", "-m", *tiny, "seed=1,2", "model.checkpoint=nowhere/there")
    assert refused.code == 2
    assert "nowhere/there" in refused.err
    assert "reviews.jsonl" not in refused.err


def test_a_study_keeps_the_precision_that_it_was_begun_with(cli, tiny, runs, monkeypatch):
    left_open = [o for o in tiny if not o.startswith("training.precision")]
    sweep = ("train", "-m", *left_open, "training.precision=auto", "hydra.sweeper.study_name=mine")
    adapters = "adapter=none,lora"
    here = "pipeline.training.speed.precision_here"
    monkeypatch.setattr(here, lambda _: "bfloat16")
    begun = cli(*sweep, adapters, "hydra.sweeper.budget.patience=1", "hydra.sweeper.n_trials=1")
    assert "  training.precision=auto: bfloat16, in all trials\n" in begun.out
    monkeypatch.setattr(here, lambda _: "float32")  # another machine
    assert cli(*sweep, adapters, "hydra.sweeper.n_trials=2").code == 0
    assert [t.data.params["training.precision"] for t in runs("trial")] == ["bfloat16"] * 2


@pytest.mark.parametrize("loss", LOSSES)
def test_a_study_whose_journal_was_lost_is_not_run_twice(cli, mine, runs, loss):
    journal = Path("mlruns/studies/mine/study.journal")
    kept = journal.read_bytes()
    LOSSES[loss](journal)
    for _ in range(2):
        refused = cli(*mine)
        assert refused.code == 2
        assert "has 2 complete trials of it, but" in refused.err
        assert "hydra.sweeper.warm_start=mlflow:mine" in refused.err
    assert len(runs("trial")) == 2
    assert "2 complete trials" in cli("doctor").out
    journal.write_bytes(kept)
    again = cli(*mine)
    assert "2 done before" in again.out, again.err
    assert cli("doctor").code == 0


def test_a_database_emptied_in_mid_run_fails_no_trial(cli, tiny, monkeypatch):
    search = ("train", "-m", *tiny, "seed=1,2,3", "hydra.sweeper.study_name=mine")

    def emptied(*given):
        Path("mlruns/mlflow.db").write_bytes(b"")
        return run(*given)

    monkeypatch.setattr("pipeline.jobs.trial.run", emptied)
    ended = cli(*search)
    assert ended.code == 2
    assert "Put back a copy of it, then give the same command again: it resumes." in ended.err
    assert "Traceback" not in ended.err
    states = {state_of(trial) for trial in trials_in(Path("mlruns/studies/mine"))}
    assert states
    assert states <= {"killed", "running", "waiting"}  # the next start runs all three


def test_a_folder_of_a_study_gone_in_mid_run_ends_in_a_paragraph(cli, tiny, monkeypatch):
    crashed = []
    monkeypatch.setattr(threading, "excepthook", crashed.append)

    def without_folder(*given):
        shutil.rmtree("mlruns/studies/mine")
        return run(*given)

    monkeypatch.setattr("pipeline.jobs.trial.run", without_folder)
    ended = cli("train", "-m", *tiny, "seed=1,2,3", "hydra.sweeper.study_name=mine")
    assert ended.code == 2
    assert "the study's journal cannot be used any more" in ended.err
    assert not crashed
