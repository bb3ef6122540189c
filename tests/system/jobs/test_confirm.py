"""confirm: the winner on fresh seeds, beside the default config and what needs no training."""

import json

import pytest

from tests.support.stores import artifact


def test_confirm_reports_a_better_winner_with_its_figures(cli, tiny, runs):
    sweep = ("optimizer.learning_rate=1e-2,1e-7", "training.epochs=3", "hydra.sweeper.n_jobs=1")
    ended = cli("train", "-m", *tiny, "optimizer.learning_rate=1e-7", *sweep)
    assert ended.code == 0, ended.err
    assert "tunewright confirm" in ended.out or "pipeline confirm" in ended.out
    (study,) = runs("study")
    name = study.data.tags["tunewright.study"]

    ended = cli("confirm", name, "--seeds", "2", "hydra.sweeper.n_jobs=1")
    assert ended.code == 0, ended.err
    study = next(run for run in runs("study") if run.data.tags["tunewright.study"] == name)
    report = json.loads(artifact(study, "winner.json").read_text())
    retrained = [r for r in runs("trial") if r.data.tags["tunewright.study"].startswith("confirm-")]
    assert {run.data.params["seed"] for run in retrained} == {"43", "44"}
    won = [r for r in retrained if r.data.params["optimizer.learning_rate"] == "0.01"]
    scores = [run.data.metrics["test/f1_macro"] for run in won]
    assert report["mean"] == sum(scores) / 2
    assert report["test_reads"] == len(retrained) == 4
    default, majority, tfidf = report["against"]
    assert default["name"] == "the default config"
    assert report["mean"] - default["mean"] == default["difference"]
    assert majority["mean"] < tfidf["mean"]
    assert "fresh seeds give" in ended.out
    means = [line for line in ended.out.splitlines() if line.startswith("mean over 2 seeds: ")]
    for mean in means:  # of either side, as it stood with its last seed
        assert f"; 2 of 2 done, {mean}\n" in ended.out
    assert len(means) == 2
    again = cli("confirm", name, "--seeds", "2", "hydra.sweeper.n_jobs=1")
    # Nothing was trained a second time.
    assert "4 runs of this store have read the test split" in again.out
    page = artifact(study, "report.html").read_text()
    assert "the default config" in page


def test_confirm_finds_no_difference_between_equal_configs(cli, tiny, runs):
    search = ("training.logging_steps=2,3", "hydra.sweeper.confirm=2", "hydra.sweeper.n_jobs=1")
    ended = cli("train", "-m", *tiny, *search)
    assert ended.code == 0, ended.err
    assert "not distinguishable from the default config (+0.0000" in ended.out
    assert "check whether the winner beats the default" not in ended.out  # it is done
    assert len(runs("trial")) == 2 + 2 + 2


@pytest.mark.usefixtures("mine")
def test_confirm_refuses_what_has_no_winner(cli):
    one = cli("confirm", "mine", "--seeds", "1")
    assert one.code == 2
    assert "one seed does not show" in one.err
    none = cli("confirm", "mien")
    assert none.code == 2
    assert "no study of that name" in none.err
