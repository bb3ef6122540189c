"""Metrics agree with scikit-learn, by label names, with no script from a hub."""

import random

import evaluate
import pytest
from sklearn import metrics as sk

from pipeline.data import Rows
from pipeline.evaluation import metrics
from pipeline.tasks import get_task

LABELS = ("negative", "neutral", "positive")


def test_scores_are_those_of_scikit_learn():
    chance = random.Random(0)
    true, predicted = chance.choices(LABELS, k=200), chance.choices(LABELS[:2], k=200)
    scores = metrics.classification_scores(predicted, true, LABELS)
    assert scores["accuracy"] == sk.accuracy_score(true, predicted)
    for key, function in (("f1", sk.f1_score), ("recall", sk.recall_score)):
        expected = function(true, predicted, average="macro", zero_division=0)
        assert scores[f"{key}_macro"] == pytest.approx(expected)
        each = function(true, predicted, average=None, labels=LABELS, zero_division=0)
        assert [scores[f"{key}/{name}"] for name in LABELS] == pytest.approx(list(each))


def test_metrics_are_evaluate_metrics():
    assert issubclass(metrics.F1, evaluate.Metric)
    given = {"predictions": ["a", "b"], "references": ["a", "a"], "labels": ["a", "b"]}
    assert metrics.F1(keep_in_memory=True).compute(**given)["f1/a"] == pytest.approx(2 / 3)


def test_the_declared_metrics_are_the_ones_that_are_scored():
    declared = get_task("classification").metrics
    scores = metrics.classification_scores(["a", "b"], ["a", "a"], ["a", "b"])
    scored = {name.split("/")[0] + "/" if "/" in name else name for name in scores}
    assert scored | {"loss"} == set(declared)


def test_the_baseline_is_the_majority_of_training():
    train = Rows("123", "xyz", ["b", "b", "a"])
    judged = Rows("12", "xy", ["a", "a"])
    assert get_task("classification").baseline(train, judged, ["a", "b"])["accuracy"] == 0.0
