"""Pruning in a search: what is stopped, and what waits and goes on as if it never had."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.experiments import Log, experiment, run_once, trial


@pytest.mark.parametrize("epochs", ["eval_every=7", "eval_every=1.0"])  # in an epoch, and between
def test_paused_run_resumes_as_if_never_stopped(tiny, working_folder, epochs):
    whole = experiment(tiny, "training.epochs=3", "training.batch_size=8", f"training.{epochs}")
    straight = Log()
    uncut = run_once(whole, straight, working_folder, trial(iter(["continue"] * 9)))

    cut = Log()
    paused = run_once(whole, cut, working_folder, trial(iter(["pause"])))
    assert paused.state == "paused"
    random.random()  # what another trial does between must not show
    other = trial(iter(["continue"] * 9))
    run_once(experiment(tiny, "seed=7"), Log(), working_folder, other)
    again = trial(iter(["continue"] * 9), paused.snapshot)
    resumed = run_once(whole, cut, working_folder, again)

    def training_of(log):
        return {point for point in log.points if point[1].startswith(("train/", "val/f1"))}

    assert resumed.scores == uncut.scores
    assert training_of(cut) == training_of(straight)
    same = ("val/loss", "best/step")
    assert [resumed.metrics[k] for k in same] == [uncut.metrics[k] for k in same]


def test_a_pruned_trial_is_its_own_state_everywhere(cli, tiny, runs):
    pruner = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=0.6")
    given_ = (
        *_learning(tiny),
        "optimizer.learning_rate=1e-9,0.01",
        *pruner,
        "hydra.sweeper.pruner.n_warmup_steps=3",
        "training.epochs=4",
    )
    ended_ = cli("train", "-m", *given_)
    assert ended_.code == 0, ended_.err
    assert "2 of 2 trials done, 0 failed, 1 pruned" in ended_.out
    assert "pruned at 3" in ended_.out
    pruned, complete = runs("trial")
    assert [t.data.tags["tunewright.state"] for t in (pruned, complete)] == ["pruned", "complete"]
    assert pruned.info.status == "KILLED"
    assert pruned.data.metrics["best/step"] > 0
    assert runs("study")[0].info.status == "FINISHED"


def test_rung_pauses_losers_and_promotes_the_best(cli, tiny, runs):
    rates = "optimizer.learning_rate=1e-9,1e-8,1e-7,0.01,1e-6,1e-5"
    promote = (
        "hydra/sweeper/pruner=promote",
        "hydra.sweeper.pruner.min_resource=3",
        "training.epochs=5",
    )
    ended_ = cli("train", "-m", *_learning(tiny), rates, *promote)
    assert ended_.code == 0, ended_.err
    trials = runs("trial")
    states = [t.data.tags["tunewright.state"] for t in trials]
    assert states.count("complete") == 2  # a third of those that reached the rung
    assert states[3] == "complete"
    assert [_last_epoch(t) for t in trials] == [{"complete": 5, "pruned": 3}[s] for s in states]
    assert {t.info.status for t in trials} == {"KILLED", "FINISHED"}


def test_eager_pruner_promotes_before_new_trials_begin(cli, tiny, runs):
    rates = "optimizer.learning_rate=1e-9,0.01,1e-8,1e-7,1e-6,1e-5"
    promote = (
        "hydra/sweeper/pruner=promote",
        "hydra.sweeper.pruner.min_resource=3",
        "hydra.sweeper.pruner.eager=true",
        "training.epochs=5",
    )
    ended_ = cli("train", "-m", *_learning(tiny), rates, *promote)
    assert ended_.code == 0, ended_.err
    trials = runs("trial")
    states = [t.data.tags["tunewright.state"] for t in trials]
    assert states[:2] == ["complete", "complete"]  # the first at once, then a better one
    assert states.count("complete") == 3  # and, of six, the second best
    assert trials[0].info.end_time < trials[1].info.end_time < trials[2].info.start_time


def _learning(tiny) -> list[str]:
    """Settings with which the tiny model learns, and shows it after three epochs."""
    own = [o for o in tiny if not o.startswith(("optimizer.", "training.e"))]
    return [*own, "training.batch_size=4", "evaluation.objective=val/loss"]


def _last_epoch(run) -> int:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd() / 'mlruns' / 'mlflow.db'}")
    steps_an_epoch = 98 / int(run.data.params["training.batch_size"])
    last = max(p.step for p in client.get_metric_history(run.info.run_id, "val/f1_macro"))
    return round(last / steps_an_epoch)


def test_pausing_needs_a_worker_that_stays(cli, tiny):
    given_ = ("hydra/sweeper/pruner=promote", "hydra.sweeper.isolation=trial")
    ended_ = cli("train", "-m", *tiny, "seed=1,2", *given_)
    assert ended_.code == 2
    assert "isolation=worker" in ended_.err


def test_early_rows_show_the_pruner_a_sample_and_the_end_judges_by_all_rows(tiny, working_folder):
    own = ["training.epochs=2", "training.eval_every=1.0", "training.batch_size=8"]
    scores, log = [], Log()

    def report(score, _):
        scores.append(score)
        return "continue"

    early = experiment(tiny, *own, "evaluation.early_rows=7")
    searched = run_once(early, log, working_folder, replace(trial(iter(())), report=report))
    points = {(step, name): value for step, name, value in log.points}
    full = Log()
    run_once(experiment(tiny, *own), full, working_folder, trial(iter(["continue"])))
    whole = {(step, name): value for step, name, value in reversed(full.points)}

    steps = sorted({step for step, name, _ in log.points if name in ("early/loss", "val/loss")})
    assert scores == [points[steps[0], "early/f1_macro"], points[steps[1], "val/f1_macro"]]
    assert (steps[1], "val/f1_macro") in points
    assert searched.metrics["best/step"] == steps[1]
    assert points[steps[1], "val/loss"] == whole[steps[1], "val/loss"]
    stopped = run_once(early, Log(), working_folder, trial(iter(["prune"])))
    assert "val/f1_macro" not in stopped.metrics
    assert stopped.metrics["early/f1_macro"] == scores[0]
