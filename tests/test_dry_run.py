"""A dry run composes and checks what would be run, and leaves nothing behind."""

from pathlib import Path

import pytest


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_every_job_of_a_grid_is_checked_and_nothing_is_written(cli, tiny, working_folder):
    before = files_in(working_folder)
    ended = cli("train", "-m", "--dry-run", *tiny, "training.batch_size=8,16", "seed=1,2,3")
    assert ended.code == 0, ended.err
    assert "all 6 jobs can be composed and are valid" in ended.out
    assert files_in(working_folder) == before


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
    for run in runs("trial"):
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
