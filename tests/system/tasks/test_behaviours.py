"""Searches by scores of each kind are confirmed; `jobs/test_confirm.py` has those of classes."""

import json

import pytest

from tests.support.served import command_of
from tests.support.stores import artifact


@pytest.mark.parametrize("task", ["token_classification", "regression", "preference"])
def test_a_search_is_confirmed_on_fresh_seeds(task, working_folder, cli, runs):
    command = command_of(task, working_folder)
    two = ("optimizer.learning_rate=1e-2,1e-3", "hydra.sweeper.confirm=2", "hydra.sweeper.n_jobs=1")
    ended = cli("train", "-m", *command, *two, "training.max_steps=3", "training.eval_every=3")
    assert ended.code == 0, ended.err
    assert "2 of 2 trials done, 0 failed." in ended.out
    (study,) = (run for run in runs("study") if not run.info.run_name.startswith("confirm-"))
    report = json.loads(artifact(study, "winner.json").read_text())
    goal = report["metric"].removeprefix("test/")
    confirmed = [run for run in runs("trial") if f"test/{goal}" in run.data.metrics]
    assert len(confirmed) == 4
    sides: dict[str, list[float]] = {}
    for run in confirmed:
        name, score = run.data.tags["tunewright.study"], run.data.metrics[f"test/{goal}"]
        sides.setdefault(name, []).append(score)
    assert [len(scores) for scores in sides.values()] == [2, 2]
    assert any(report["mean"] == pytest.approx(sum(scores) / 2) for scores in sides.values())
