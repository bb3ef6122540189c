"""Pruners: when a trial is evaluated, and which ones a rung promotes."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import hydra_plugins.tunewright
from pipeline.common.errors import ConfigError
from pipeline.search.optuna_parts import report_step
from pipeline.search.pruners import PauseAndPromote, make_pruner, promotable
from pipeline.search.study.trials import PAUSED_AT, best_first, ended, state_of
from pipeline.search.workers.reporter import Reporter
from pipeline.training.points import Length, evaluation_points
from tests.support.configs import training
from tests.support.experiments import experiment

PROMOTE = "pipeline.search.pruners.PauseAndPromote"
CONF = Path(hydra_plugins.tunewright.__file__).parent / "conf/hydra/sweeper/pruner"


@given(
    st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0, 2.0]),
    st.integers(1, 300),
    st.sampled_from([0.5, 1.0, 2.5, 3.0]),
)
def test_evaluations_come_at_the_same_epochs_for_every_batch_size(every, steps, epochs):
    config = training(epochs=epochs, eval_every=every, checkpoint_every=None)
    max_steps = -(-int(epochs * steps * 1000) // 1000)
    points = evaluation_points(config, Length(max_steps, epochs, steps))
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
    config = training(epochs=2.0, eval_every=[0.12, 0.04, 1.0])
    length = Length.of(config, 50 * config.batch_size)
    assert evaluation_points(config, length) == {2: 0.04, 6: 0.12, 50: 1.0, 100: 2.0}


def test_a_run_of_so_many_steps_is_as_long_as_they_are_whatever_its_epochs():
    config = training(epochs=2.0, max_steps=75, eval_every=0.5)
    length = Length.of(config, 50 * config.batch_size)
    assert length == Length(75, 1.5, 50)
    assert evaluation_points(config, length) == {25: 0.5, 50: 1.0, 75: 1.5}


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
            "factor=None: .* whole",
        ),
        ({"_target_": PROMOTE, "min_resource": 1, "reduction_factor": 1}, "factor=1: .* from 2"),
        ({"_target_": PROMOTE, "min_resource": 1, "eager": "no"}, "eager='no': .* true or false"),
        (
            {"_target_": "optuna.pruners.PercentilePruner", "percentile": "abc"},
            "hydra.sweeper.pruner.percentile='abc': expected a number.",
        ),
    ],
)
def test_a_pruner_that_cannot_be_is_refused(options, fragment):
    with pytest.raises(ConfigError, match=fragment.replace("?", r"\?")):
        make_pruner(options, 100)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=6, max_size=30, unique=True), st.integers(2, 4))
def test_full_rung_promotes_exactly_the_best(scores, factor):
    study = optuna.create_study(direction="maximize")
    pruner = PauseAndPromote(min_resource=1, reduction_factor=factor)
    for score in scores:
        waiting = study.ask()
        report_step(study, waiting, 1, score)
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


def test_a_sample_cannot_stand_where_all_evaluations_count(tiny):
    with pytest.raises(ConfigError, match=r"early_rows=7.*early_stopping_patience=1"):
        experiment(tiny, "evaluation.early_rows=7", "training.early_stopping_patience=1")
    with pytest.raises(ConfigError, match=r"early_rows=7.*val/f1_macro@mean2"):
        experiment(tiny, "evaluation.early_rows=7", "evaluation.objective=val/f1_macro@mean2")
