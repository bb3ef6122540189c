"""Which logged runs make up a trial that a new search learns from."""

import pytest

from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.jobs import prior_runs
from pipeline.jobs.prior_runs import prior_trials
from pipeline.search.space.grammar import parse_space
from pipeline.tracking.trials import LoggedTrial

LOSS = "val/loss"
LOSSES = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}  # whose means differ for any runs


def run(name: str, repeat: int | None) -> LoggedTrial:
    repeats = 1 if repeat is None else 2
    searched, of = {"training.batch_size": "8"}, {LOSS: LOSSES[name]}
    return LoggedTrial(name, True, searched, [], of, None, ("old", "0"), repeat, repeats)


@pytest.mark.parametrize(
    ("runs", "scores"),
    [  # the latest first
        ([run("d", 1), run("c", 0), run("b", 1), run("a", 0)], [6.0]),
        ([run("c", 0), run("b", 1), run("a", 0)], []),  # the latest try was cut
        ([run("b", None), run("a", None)], [2.0]),
    ],
)
def test_the_latest_try_of_a_point_counts(tiny, monkeypatch, runs, scores):
    monkeypatch.setattr(prior_runs, "logged_trials", lambda *_: runs)
    monkeypatch.setattr(prior_runs, "history", lambda _store, run_id, _metric: {1: LOSSES[run_id]})
    with hydra_app("train") as hydra:
        config = without_hydra(compose(hydra, [*tiny, f"evaluation.objective={LOSS}"]))
    found = prior_trials(None, config, "", "old", parse_space(["training.batch_size=8,16"]))
    assert [trial.values for trial in found.trials] == [[score] for score in scores]
    assert found.count == 1
