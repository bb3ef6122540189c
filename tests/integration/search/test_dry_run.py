"""A dry run composes and checks what would be run, and leaves nothing behind."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from pipeline.jobs import trial
from pipeline.search.study.storage import seek_study

NAMED = "hydra.sweeper.study_name=mine"


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_jobs_of_a_grid_are_checked_at_once_and_nothing_is_written(
    cli, tiny, working_folder, monkeypatch
):
    def counted(function, experiments, *, meanwhile):
        checked.append(len(experiments))
        meanwhile()
        return function(experiments)

    checked: list[int] = []
    monkeypatch.setattr(trial, "aside", counted)  # under `tunewright plan` each call is a fork
    before = files_in(working_folder)
    ended = cli("train", "-m", "--dry-run", *tiny, "training.batch_size=8,16", "seed=1,2,3")
    assert ended.code == 0, ended.err
    assert "all 6 jobs can be composed and are valid" in ended.out
    assert checked[1:] == [6]  # after what the space must allow
    assert files_in(working_folder) == before


def test_a_plan_says_what_prunes_and_what_comes_afterwards(cli, tiny):
    how = ("hydra/sweeper/pruner=promote", "hydra.sweeper.confirm=3")
    planned = cli("train", "-m", "--dry-run", *tiny, "training.batch_size=8,16", *how)
    assert "2 trials by GridSampler, pruned by PauseAndPromote\n" in planned.out
    assert "afterwards its winner and the default config are trained on 3 fresh" in planned.out


def test_a_combination_that_cannot_run_is_found_by_the_dry_run_alone(cli, tiny):
    # Each value is fine with the first value of the other key; only the pair is not.
    pair = ("schedule.warmup=0.1,0.9", "schedule=warmup_stable_decay", "schedule.decay=0.1,0.5")
    ended = cli("train", "-m", "--dry-run", *tiny, *pair)
    assert ended.code == 2
    assert "schedule.decay=0.5: expected at most what schedule.warmup=0.9 leaves" in ended.err


def test_the_first_points_of_a_sampler_are_those_of_the_search(cli, tiny, runs):
    given = (
        *tiny,
        "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))",
        "hydra.sweeper.n_trials=2",
    )
    shown = cli("train", "-m", "--dry-run", *given).out
    cli("train", "-m", *given)
    trials = runs("trial")
    assert len(trials) == 2
    for run in trials:
        assert run.data.params["optimizer.learning_rate"] in shown


def test_a_single_run_can_be_rehearsed_too(cli, tiny, working_folder):
    before = files_in(working_folder)
    assert cli("train", "--dry-run", *tiny).code == 0
    refused = cli("train", "--dry-run", *tiny, "training.max_length=4000")
    assert refused.code == 2
    assert files_in(working_folder) == before


@pytest.mark.parametrize("asked", ["hydra.sweeper.dry_run=perhaps", "hydra.sweeper.repeats=0"])
def test_options_out_of_bounds_are_refused(cli, tiny, asked):
    assert cli("train", "-m", *tiny, "seed=1,2", asked).code == 2


@pytest.mark.parametrize("storage", [None, "sqlite:///trials.db"])
def test_dry_run_of_existing_study_shows_remaining_points(cli, tiny, working_folder, storage):
    command = ("train", "-m", *tiny, NAMED, "seed=11,12,13")
    command += (f"hydra.sweeper.storage={storage}",) if storage else ()
    assert cli(*command, "hydra.sweeper.n_trials=1").code == 0
    before = content_of(working_folder)
    shown = cli(*command, "--dry-run")
    assert shown.code == 0, shown.err
    assert "1 done before, 2 to go" in shown.out
    assert "all 2 jobs to go can be composed and are valid" in shown.out
    rows = [line.split() for line in shown.out.splitlines()]
    assert [row[1] for row in rows if len(row) == 2 and row[0].isdigit()] == ["12", "13"]
    assert content_of(working_folder) == before
    assert cli(*command).code == 0
    before = content_of(working_folder)
    shown = cli(*command, "--dry-run")
    assert "3 done before, 0 to go" in shown.out
    assert "no job is to go" in shown.out
    assert content_of(working_folder) == before


def test_dry_run_refuses_as_the_search_does(cli, tiny, working_folder):
    command = ("train", "-m", *tiny, NAMED)
    assert cli(*command, "seed=range(1,3)").code == 0
    before = content_of(working_folder)
    others = {
        "training.epochs=1": ("training.epochs=2", "seed=range(1,3)"),
        "the space has changed": ("seed=range(2,5)",),
        "seed has others now": ("seed=1,2", "hydra.sweeper.on_change=continue"),
    }
    for said, given in others.items():
        refused = cli(*command, *given, "--dry-run")
        assert refused.code == 2
        assert said in refused.err
    for way, says in {
        "continue": "with another space",
        "fork": "forked from mine",
    }.items():
        shown = cli(*command, "seed=range(2,5)", f"hydra.sweeper.on_change={way}", "--dry-run")
        assert shown.code == 0, shown.err
        assert says in shown.out
        assert "all 2 jobs to go" in shown.out
    assert content_of(working_folder) == before


def test_looking_for_a_study_makes_nothing(working_folder):
    assert seek_study("mine", f"sqlite:///{working_folder}/none.db") is None
    assert seek_study("mine", str(working_folder / "none" / "study.journal")) is None
    assert files_in(working_folder) == set()
    engine = create_engine(f"sqlite:///{working_folder}/empty.db")
    with engine.connect() as connection:
        connection.exec_driver_sql("create table other (a integer)")
    before = content_of(working_folder)
    assert seek_study("mine", f"sqlite:///{working_folder}/empty.db") is None
    assert content_of(working_folder) == before
