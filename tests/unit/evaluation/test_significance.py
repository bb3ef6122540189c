"""Verdicts: luck is not taken for skill, nor skill for luck."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.metrics import classification_scores
from pipeline.evaluation.significance import (
    compare,
    compare_scores,
    mcnemar,
    scores_of,
    standard_error,
)

LABELS = ["bad", "good", "so so"]
METRICS = ["accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall/so so", "f1/bad"]


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 2), min_size=1, max_size=40))
def test_metrics_of_confusion_matrices_are_those_of_the_rows(pairs):
    truth, predicted = np.array(pairs).T
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (truth, predicted), 1)
    names = [LABELS[i] for i in predicted], [LABELS[i] for i in truth]
    expected = classification_scores(*names, LABELS)
    for metric in METRICS:
        assert scores_of(confusion, metric, LABELS) == pytest.approx(expected[metric])


def test_the_rows_give_an_accuracy_the_standard_error_of_a_share():
    truth = np.zeros(400, int)
    predicted = (np.arange(400) >= 300).astype(int)  # three quarters are right
    expected = (0.75 * 0.25 / 400) ** 0.5
    found = standard_error(predicted, truth, "accuracy", LABELS)
    assert found == pytest.approx(expected, rel=0.1)


def test_mcnemar_counts_the_rows_on_which_one_alone_is_right():
    first = np.array([True] * 10 + [False] * 2 + [True] * 50)
    second = np.array([False] * 10 + [True] * 2 + [True] * 50)
    assert mcnemar(first, second) == pytest.approx(2 * (66 + 12 + 1) / 2**12)
    assert mcnemar(first, first) == 1.0


def test_a_difference_that_seeds_explain_is_not_clear():
    spread, close = np.array([0.60, 0.70, 0.80]), np.array([0.699, 0.700, 0.701])
    assert not compare_scores(spread, spread - 0.05).is_clear
    assert compare_scores(close, close - 0.05).is_clear


class Search:
    """A search on recorded tables: the rows that each configuration gets right, on each seed."""

    def __init__(self, seed: int, skills: list[float], rows: int = 800) -> None:
        self._chance = np.random.default_rng(seed)
        self._skills, self._rows = skills, rows
        self._hard = self._chance.normal(size=rows)  # rows that are hard are so for every one

    def predictions(self, config: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        skill = self._skills[config] + self._chance.normal(scale=0.05, size=(seeds, 1))
        noise = self._chance.normal(scale=0.5, size=(seeds, self._rows))
        right = skill + noise > self._hard
        truth = np.arange(self._rows) % 3
        return np.where(right, truth, (truth + 1) % 3), truth

    def run(self) -> tuple[int, object]:
        """Choose by one seed of each, then repeat the winner and the first on fresh seeds."""
        scores = []
        for config in range(len(self._skills)):
            predicted, truth = self.predictions(config, 1)
            scores.append((predicted[0] == truth).mean())
        winner = int(np.argmax(scores))
        self._hard = self._chance.normal(size=self._rows)  # of the test split
        first, truth = self.predictions(winner, 5)
        second, _ = self.predictions(0, 5)
        return winner, compare(first, second, truth, "f1_macro", LABELS)


@pytest.mark.parametrize("seed", range(20))
def test_a_search_among_equals_finds_nothing(seed):
    _, difference = Search(seed, [0.8] * 12).run()
    assert not difference.is_clear


@pytest.mark.parametrize("seed", range(20))
def test_planted_better_configuration_is_found(seed):
    skills = [0.8] * 12
    skills[7] = 1.5
    winner, difference = Search(seed, skills).run()
    assert winner == 7
    assert difference.is_clear
    assert difference.value > 0
    low, high = difference.interval
    assert low < difference.value < high
