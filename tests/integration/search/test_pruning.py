"""Pruning: what is stopped, what waits and goes on as if it never had, and what that is worth."""

import random
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline import run as runs
from pipeline.common.errors import ConfigError
from pipeline.config.schema import TrainingConfig
from pipeline.search.pruners import PauseAndPromote, make_pruner
from pipeline.search.rungs import promotable
from pipeline.search.study.trials import PAUSED_AT, best_first, ended, state_of
from pipeline.search.workers.reporter import Reporter
from pipeline.training.trainer import evaluation_points
from tests.support.experiments import Log, experiment, trial

PROMOTE = "pipeline.search.pruners.PauseAndPromote"
CONF = Path(runs.__file__).parents[1] / "hydra_plugins/tunewright/conf/hydra/sweeper/pruner"


@pytest.mark.parametrize("epochs", ["eval_every=7", "eval_every=1.0"])  # in an epoch, and between
def test_a_paused_run_goes_on_as_if_it_never_stopped(tiny, working_folder, epochs):
    whole = experiment(tiny, "training.epochs=3", "training.batch_size=8", f"training.{epochs}")
    straight = Log()
    uncut = runs.run(whole, straight, working_folder, trial(iter(["continue"] * 9)))

    cut = Log()
    paused = runs.run(whole, cut, working_folder, trial(iter(["pause"])))
    assert paused.state == "paused"
    random.random()  # what another trial does between must not show
    other = trial(iter(["continue"] * 9))
    runs.run(experiment(tiny, "seed=7"), Log(), working_folder, other)
    again = trial(iter(["continue"] * 9), paused.snapshot)
    resumed = runs.run(whole, cut, working_folder, again)

    def training_of(log):
        return {point for point in log.points if point[1].startswith(("train/", "val/f1"))}

    assert resumed.scores == uncut.scores
    assert training_of(cut) == training_of(straight)
    same = ("val/last/loss", "val/best/loss", "val/best/step")
    assert [resumed.metrics[k] for k in same] == [uncut.metrics[k] for k in same]


@given(
    st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0, 2.0]),
    st.integers(1, 300),
    st.sampled_from([0.5, 1.0, 2.5, 3.0]),
)
def test_evaluations_come_at_the_same_epochs_for_every_batch_size(every, steps, epochs):
    training = TrainingConfig(epochs, 8, 16, 1.0, every, 10, None, "float32")
    max_steps = -(-int(epochs * steps * 1000) // 1000)
    points = evaluation_points(training, steps, max_steps)
    assert points[max_steps] == epochs
    assert list(points) == sorted(points)
    for step, epoch in list(points.items())[:-1]:
        assert epoch == pytest.approx(round(epoch / every) * every)
        assert epoch * steps - 1e-6 <= step < epoch * steps + 1  # never before its time


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_defaults_in_epochs_do_for_a_function_that_counts_whole_steps(path):
    options = OmegaConf.to_container(OmegaConf.load(path))
    if path.stem == "threshold":
        options["upper"] = 1.0
    pruner = make_pruner(options, 1)
    if isinstance(pruner, PauseAndPromote):
        return
    study = optuna.create_study(pruner=pruner)
    for value in (1.0, 2.0):
        trial = study.ask()
        trial.report(value, 1)
        trial.should_prune()
        study.tell(trial, value)


def test_evaluations_come_at_the_epochs_asked_for_and_at_the_end():
    training = TrainingConfig(2.0, 8, 16, 1.0, [0.12, 0.04, 1.0], 10, None, "float32")
    assert evaluation_points(training, 50, 100) == {2: 0.04, 6: 0.12, 50: 1.0, 100: 2.0}


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_pruner_is_made_from_its_file(path):
    options = OmegaConf.to_container(OmegaConf.load(path))
    if path.stem == "threshold":
        options["lower"] = 0.1
    pruner = make_pruner(options, 100)
    assert type(pruner).__name__ == options["_target_"].rpartition(".")[2]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"_target_": "optuna.pruners.MedianPrunr"}, "Did you mean MedianPruner?"),
        ({"_target_": "os.system"}, "there is no such pruner"),
        ({"_target_": "optuna.pruners.MedianPruner", "n_warmup": 1}, "n_warmup_steps?"),
        ({"_target_": "optuna.pruners.ThresholdPruner"}, "lower"),
        ({"_target_": PROMOTE, "min_resource": 0}, "above 0"),
        ({"_target_": PROMOTE, "min_resource": float("nan")}, "min_resource=nan: .* above 0"),
        ({"_target_": PROMOTE, "min_resource": 1, "reduction_factor": 2.5}, "factor=2.5: .* whole"),
        (
            {"_target_": PROMOTE, "min_resource": 1, "reduction_factor": None},
            "factor=None: .* from 2",
        ),
        ({"_target_": PROMOTE, "min_resource": 1, "eager": "no"}, "true or false"),
    ],
)
def test_a_pruner_that_cannot_be_is_refused(options, fragment):
    with pytest.raises(ConfigError, match=fragment.replace("?", r"\?")):
        make_pruner(options, 100)


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
    assert pruned.data.metrics["val/best/step"] > 0
    assert runs("study")[0].info.status == "FINISHED"


def test_losers_wait_and_the_best_of_a_rung_go_on(cli, tiny, runs):
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


def test_the_eager_go_on_before_new_ones_begin(cli, tiny, runs):
    rates = "optimizer.learning_rate=0.01,1e-9,1e-8,1e-7,1e-6,1e-5"
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
    assert states[0] == "complete"  # the best of the first three
    assert states.count("complete") == 2
    assert trials[2].info.start_time < trials[0].info.end_time < trials[3].info.start_time


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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=6, max_size=30, unique=True), st.integers(2, 4))
def test_with_everyone_at_the_rung_exactly_the_best_go_on(scores, factor):
    study = optuna.create_study(direction="maximize")
    pruner = PauseAndPromote(min_resource=1, reduction_factor=factor)
    for score in scores:
        waiting = study.ask()
        study._storage.set_trial_intermediate_value(waiting._trial_id, 1, score)
        waiting.set_user_attr(PAUSED_AT, 1)
    held = set(range(len(scores)))
    gone = []
    while (number := promotable(study, pruner, held, "maximize")) is not None:
        held.discard(number)
        gone.append(number)
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[: max(1, len(scores) // factor)]
    assert gone == best


def test_several_objectives_are_pruned_on_the_named_one(working_folder):
    from tests.support.studies import spec

    two = spec(working_folder, "TPESampler", 9)
    object.__setattr__(two, "directions", ("minimize", "maximize"))
    object.__setattr__(two, "pruner", {"_target_": "optuna.pruners.MedianPruner"})
    study, pruner = two.open(), two.make_pruner()
    verdicts = []
    for score in (1.0, 2.0, 3.0, 4.0, 5.0, 9.0):
        asked = study.ask()
        verdicts.append(Reporter(study, two, pruner, asked)(score, 1))
        study.tell(asked, [score, 0.0])
    assert verdicts == ["continue"] * 5 + ["prune"]  # the sixth is worse than the median of five
    assert len(best_first(study)) == len(ended(study, "complete")) == 6
    assert {state_of(t) for t in study.trials} == {"complete"}


def test_early_rows_show_the_pruner_a_sample_and_the_end_judges_by_all_rows(tiny, working_folder):
    own = ["training.epochs=2", "training.eval_every=1.0", "training.batch_size=8"]
    scores, log = [], Log()

    def report(score, _):
        scores.append(score)
        return "continue"

    early = experiment(tiny, *own, "evaluation.early_rows=7")
    searched = runs.run(early, log, working_folder, replace(trial(iter(())), report=report))
    points = {(step, name): value for step, name, value in log.points}
    whole = runs.run(experiment(tiny, *own), Log(), working_folder, trial(iter(["continue"])))

    steps = sorted({step for step, name, _ in log.points if name in ("early/loss", "val/loss")})
    assert scores == [points[steps[0], "early/f1_macro"]]
    assert (steps[1], "val/f1_macro") in points
    assert searched.metrics["val/best/step"] == steps[1]
    assert searched.metrics["val/last/loss"] == whole.metrics["val/last/loss"]
    stopped = runs.run(early, Log(), working_folder, trial(iter(["prune"])))
    assert "val/best/f1_macro" not in stopped.metrics
    assert stopped.metrics["early/best/f1_macro"] == scores[0]


def test_a_sample_cannot_stand_where_all_evaluations_count(tiny):
    with pytest.raises(ConfigError, match=r"early_rows=7.*early_stopping_patience=1"):
        experiment(tiny, "evaluation.early_rows=7", "training.early_stopping_patience=1")
    with pytest.raises(ConfigError, match=r"early_rows=7.*val/f1_macro@mean2"):
        experiment(tiny, "evaluation.early_rows=7", "evaluation.objective=val/f1_macro@mean2")
