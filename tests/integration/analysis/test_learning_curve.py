"""How much data is enough, which labels are wrong, which model: each a search with an answer."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.analysis.learning_curve import fit
from pipeline.evaluation.label_errors import doubts
from tests.support.rows import rows, write_rows
from tests.support.stores import artifact

ONE = "hydra.sweeper.n_jobs=1"


@given(st.floats(0.5, 0.95), st.floats(0.5, 5.0), st.floats(0.2, 1.0))
def test_a_power_law_is_found_again(limit, factor, exponent):
    sizes = [100, 200, 400, 800, 1600]
    scores = [limit - factor * n**-exponent for n in sizes]
    curve = fit(sizes, scores, "f1_macro")
    true = factor * (1600**-exponent - 3200**-exponent)
    assert curve.doubled == pytest.approx(true, rel=0.05, abs=1e-4)
    assert curve.at(800) == pytest.approx(scores[3], abs=1e-3)


def test_no_curve_goes_beyond_what_a_score_can_be():
    sizes, scores = [128, 256, 512, 1024, 2048], [0.425, 0.5, 0.568, 0.644, 0.71]
    assert fit(sizes, scores, "f1_macro").limit > 1
    curve = fit(sizes, scores, "f1_macro", bound=1.0)
    assert 0.9 < curve.limit <= 1
    assert 0 < curve.doubled < 0.07
    losses = fit(sizes, [1 - score for score in scores], "loss", bound=0.0)
    assert losses.limit == pytest.approx(1 - curve.limit)
    assert losses.doubled == pytest.approx(-curve.doubled)


def test_the_interval_covers_what_twice_the_data_brings():
    sizes, covered = [n for n in (100, 200, 400, 800, 1600) for _ in range(3)], 0
    true = 2.0 * (1600**-0.5 - 3200**-0.5)
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(scale=0.01, size=len(sizes))
        scores = [0.8 - 2.0 * n**-0.5 + e for n, e in zip(sizes, noise, strict=True)]
        low, high = fit(sizes, scores, "f1_macro").interval
        covered += low <= true <= high
    assert covered >= 85  # of nominally 95: exponent and limit are hardly told apart


def test_shares_of_the_data_are_searched_and_answered_in_words(cli, tiny, runs):
    space = ("data.train_share=0.25,0.5,1.0", "hydra.sweeper.repeats=2", ONE)
    ended = cli("train", "-m", *tiny, *space)
    assert ended.code == 0, ended.err
    assert "twice the data" in ended.out
    (study,) = runs("study")
    curve = json.loads(artifact(study, "learning_curve.json").read_text())
    logged = sorted(int(run.data.metrics["data/train_rows"]) for run in runs("trial"))
    assert sorted(curve["rows"]) == logged
    assert logged[0] == round(logged[-1] / 4)
    assert "Twice the data" in artifact(study, "report.html").read_text()


def test_each_row_is_judged_by_a_model_that_did_not_see_it(cli, tiny, working_folder, runs):
    records = rows(400, seed=5)
    flipped = [7, 40, 99, 150, 320]
    for i in flipped:
        records[i]["stars"] = "neg" if records[i]["stars"] == "pos" else "pos"
    write_rows(working_folder / "reviews.jsonl", records)
    space = ("data.fold=0,1,2", "data.folds=3", "training.epochs=8", ONE)
    ended = cli("train", "-m", *tiny, *space)
    assert ended.code == 0, ended.err
    assert "look wrong to models that did not see the row" in ended.out
    (study,) = runs("study")
    found = json.loads(artifact(study, "label_errors.json").read_text())
    assert found["judged"] == 400 - 40  # the test split's are not judged
    ids = {row[0] for row in found["data"]}
    assert ids <= {f"reviews.jsonl:{i + 1}" for i in flipped}
    assert len(ids) >= 3  # the others are in the test split
    assert "Doubtful labels" in artifact(study, "report.html").read_text()


def test_confident_learning_estimates_how_many_labels_are_wrong():
    chance = np.random.default_rng(0)
    true = chance.integers(0, 3, 3000)
    given_labels = np.where(chance.random(3000) < 0.1, (true + 1) % 3, true)
    shares = np.full((3000, 3), 0.05) + chance.random((3000, 3)) * 0.1
    shares[np.arange(3000), true] += 0.8
    shares /= shares.sum(axis=1, keepdims=True)
    names = ["a", "b", "c"]
    found = doubts(shares, [names[i] for i in given_labels], names)
    wrong = int((true != given_labels).sum())
    assert found.estimate == pytest.approx(wrong, rel=0.1)
    assert {one.position for one in found.ranked} == set(np.flatnonzero(true != given_labels))


def test_models_are_compared_by_score_and_cost(cli, tiny, tiny_model, runs):
    own = [word for word in tiny if not word.startswith("model")]
    goals = "evaluation.objective=[val/f1_macro,cost/parameters]"
    sizes = "model.from_config.hidden_size=16,64"
    scratch = ("model=tiny-bert", f"model.tokenizer={tiny_model}")
    ended = cli("train", "-m", *own, *scratch, sizes, goals, ONE)
    assert ended.code == 0, ended.err
    table = ended.out[ended.out.index("front: trial") :].splitlines()
    assert "seconds_per_1000_rows" in table[0]
    small, large = (run.data.metrics for run in runs("trial"))
    assert small["cost/parameters"] < large["cost/parameters"]
    for name in ("cost/memory_mb", "cost/seconds_per_1000_rows"):
        assert small[name] > 0


@pytest.mark.parametrize(
    ("given_key", "said"),
    [
        ("data.fold=2", "data.folds=null"),
        ("data.folds=1", "data.folds"),
        ("data.train_share=1.5", "data.train_share"),
    ],
)
def test_parts_that_are_not_there_are_refused(cli, tiny, given_key, said):
    ended = cli("train", *tiny, given_key)
    assert ended.code == 2
    assert said in ended.err
