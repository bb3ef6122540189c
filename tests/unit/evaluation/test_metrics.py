"""Metrics agree with scikit-learn, by label names, with no script from a hub."""

import random

import evaluate
import pytest
from sklearn import metrics as sk

from pipeline.evaluation import metrics
from pipeline.tasks.classification import Classification
from tests.support.configs import task_settings
from tests.support.rows import labelled, tiny_task

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


@pytest.mark.parametrize("predicted_of", [LABELS, LABELS[:1]])
@pytest.mark.parametrize("true_of", [LABELS, LABELS[1:]])
def test_averages_equal_scikit_learn_with_missing_labels(predicted_of, true_of):
    chance = random.Random(1)
    true, predicted = chance.choices(true_of, k=97), chance.choices(predicted_of, k=97)
    expected = {"accuracy": sk.accuracy_score(true, predicted)}
    for average in ("macro", "weighted"):
        found = sk.precision_recall_fscore_support(
            true, predicted, average=average, zero_division=0
        )
        for kind, value in zip(("precision", "recall", "f1"), found[:3], strict=True):
            expected[f"{kind}_{average}"] = value
    each = sk.precision_recall_fscore_support(true, predicted, labels=LABELS, zero_division=0)
    for kind, values in zip(("precision", "recall", "f1"), each[:3], strict=True):
        expected |= {f"{kind}/{name}": v for name, v in zip(LABELS, values, strict=True)}
    assert metrics.classification_scores(predicted, true, LABELS) == expected


def test_scores_do_not_depend_on_names_of_labels():
    chance = random.Random(2)
    true, predicted = chance.choices(LABELS, k=50), chance.choices(LABELS, k=50)
    names = dict(zip(LABELS, ("10", "9", "a/b"), strict=True))  # of another order than they sort in
    given = ([names[label] for label in side] for side in (predicted, true))
    renamed = metrics.classification_scores(*given, [names[label] for label in LABELS])
    plain = metrics.classification_scores(predicted, true, LABELS)
    assert list(renamed.values()) == list(plain.values())


def test_every_metric_is_an_evaluate_metric():
    assert issubclass(metrics.EveryMetric, evaluate.Metric)
    given = {"predictions": [0, 1], "references": [0, 0], "labels": ["a", "b"]}
    assert metrics.EveryMetric(keep_in_memory=True).compute(**given)["f1/a"] == pytest.approx(2 / 3)


def test_the_declared_metrics_are_the_ones_that_are_scored():
    declared = Classification.metrics(task_settings("classification"))
    scores = metrics.classification_scores(["a", "b"], ["a", "a"], ["a", "b"])
    scored = {name.split("/")[0] + "/" if "/" in name else name for name in scores}
    assert scored | {"loss"} == set(declared)


def test_the_baseline_is_the_majority_of_training(tiny_model):
    train = labelled([("x", "b"), ("y", "b"), ("z", "a")])
    task = tiny_task(tiny_model, {"a": 1, "b": 2})
    assert task.baseline(train, labelled([("x", "a"), ("y", "a")]))["accuracy"] == 0.0
