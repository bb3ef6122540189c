"""A curve fitted to scores by rows, and the number of wrong labels, estimated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.analysis.learning_curve import fit_power_law
from pipeline.evaluation.label_errors import confident_learning


@given(st.floats(0.5, 0.95), st.floats(0.5, 5.0), st.floats(0.2, 1.0))
def test_a_power_law_is_found_again(limit, factor, exponent):
    sizes = [100, 200, 400, 800, 1600]
    scores = [limit - factor * n**-exponent for n in sizes]
    curve = fit_power_law(sizes, scores, "f1_macro")
    true = factor * (1600**-exponent - 3200**-exponent)
    assert curve.doubled == pytest.approx(true, rel=0.05, abs=1e-4)
    assert curve.at(800) == pytest.approx(scores[3], abs=1e-3)


def test_curve_stays_within_bounds_of_a_score():
    sizes, scores = [128, 256, 512, 1024, 2048], [0.425, 0.5, 0.568, 0.644, 0.71]
    assert fit_power_law(sizes, scores, "f1_macro").limit > 1
    curve = fit_power_law(sizes, scores, "f1_macro", bound=1.0)
    assert 0.9 < curve.limit <= 1
    assert 0 < curve.doubled < 0.07
    losses = fit_power_law(sizes, [1 - score for score in scores], "loss", bound=0.0)
    assert losses.limit == pytest.approx(1 - curve.limit)
    assert losses.doubled == pytest.approx(-curve.doubled)


def test_interval_covers_score_at_twice_the_data():
    sizes, covered = [n for n in (100, 200, 400, 800, 1600) for _ in range(3)], 0
    true = 2.0 * (1600**-0.5 - 3200**-0.5)
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(scale=0.01, size=len(sizes))
        scores = [0.8 - 2.0 * n**-0.5 + e for n, e in zip(sizes, noise, strict=True)]
        low, high = fit_power_law(sizes, scores, "f1_macro").interval
        covered += low <= true <= high
    assert covered >= 85  # of nominally 95: exponent and limit are hardly told apart


def test_confident_learning_estimates_how_many_labels_are_wrong():
    chance = np.random.default_rng(0)
    true = chance.integers(0, 3, 3000)
    given_labels = np.where(chance.random(3000) < 0.1, (true + 1) % 3, true)
    shares = np.full((3000, 3), 0.05) + chance.random((3000, 3)) * 0.1
    shares[np.arange(3000), true] += 0.8
    shares /= shares.sum(axis=1, keepdims=True)
    names = ["a", "b", "c"]
    found = confident_learning(shares, [names[i] for i in given_labels], names)
    wrong = int((true != given_labels).sum())
    assert found.estimate == pytest.approx(wrong, rel=0.1)
    assert {one.position for one in found.ranked} == set(np.flatnonzero(true != given_labels))
