"""The verdict on a rerun, by records that are made here."""

import math

import pytest

from pipeline.tracking.drift import Drift
from pipeline.tracking.logged import LoggedRun
from pipeline.tracking.verdict import TOLERANCE, judge

HISTORIES = {
    "train/loss": {2: 0.5, 4: 0.25},
    "val/f1": {3: 0.5, 4: 20.0},
    "cost/train_seconds": {4: 7.0},
}
DRIFT = [
    Drift("data", "different", "train: 100 rows (a) -> 99 rows (b)"),
    Drift("code", "same", ""),
    Drift("machine", "unknown", "it is not in the record"),
]
SAME_BITS = "all 4 points of metrics are the same to the last bit"
DIGESTS = {"val": "d"}


def record(histories=HISTORIES, predictions=DIGESTS) -> LoggedRun:
    return LoggedRun(
        place="run 1",
        run_id="1",
        name="one",
        experiment=None,
        state="complete",
        config=b"",
        provenance={},
        inputs={},
        predictions=predictions,
        histories=histories,
    )


def with_points(**metrics) -> dict:
    """Return the histories with other ones, ``_`` for ``/``; None takes one out."""
    changed = HISTORIES | {key.replace("_", "/", 1): value for key, value in metrics.items()}
    return {key: value for key, value in changed.items() if value is not None}


def loss(first, second=0.25) -> dict:
    return with_points(train_loss={2: first, 4: second})


@pytest.mark.parametrize(
    ("now", "kind", "said"),
    [
        (HISTORIES, "identical", f"predictions and {SAME_BITS}"),
        (with_points(cost_train_seconds={4: 9.0}), "identical", f"predictions and {SAME_BITS}"),
        (HISTORIES | {"val/f1/a": {4: 0.1}}, "identical", f"predictions and {SAME_BITS}"),
        (
            loss(0.5 + 0.9 * TOLERANCE),
            "equivalent",
            "all 4 points of metrics within 0.001, by up to 0.0009; "
            "first train/loss at step 2: 0.5 -> 0.5009",
        ),
        (  # relative above 1
            with_points(val_f1={3: 0.5, 4: 20.015}),
            "equivalent",
            "by up to 0.000749; first val/f1 at step 4: 20.0 -> 20.015",
        ),
        (
            loss(0.5 + 1.1 * TOLERANCE),
            "different",
            "1 of 4 points of metrics differ, by up to 0.0011 (tolerance 0.001); "
            "first train/loss at step 2: 0.5 -> 0.5011",
        ),
        (with_points(val_f1={3: 0.5, 4: 20.025}), "different", "by up to 0.00125"),
        (  # the loss is named, though another metric parts at an earlier step
            with_points(train_loss={2: 0.5, 4: 0.75}, val_f1={3: 0.25, 4: 20.0}),
            "different",
            "2 of 4 points of metrics differ, by up to 0.5 (tolerance 0.001); "
            "first train/loss at step 4: 0.25 -> 0.75",
        ),
        (
            with_points(train_loss=None),
            "different",
            "2 of 4 points of metrics differ, 2 of them in one of the two only; "
            "first train/loss at step 2: 0.5 -> not logged",
        ),
        (
            with_points(val_f2={4: 1.0}),
            "different",
            "1 of 5 points of metrics differ, 1 of them in one of the two only; "
            "first val/f2 at step 4: not logged -> 1.0",
        ),
        (  # other steps: the sizes are those of the steps that both have
            with_points(train_loss={2: 0.75, 5: 0.25}),
            "different",
            "3 of 5 points of metrics differ, by up to 0.25 (tolerance 0.001), "
            "2 of them in one of the two only; first train/loss at step 2: 0.5 -> 0.75",
        ),
        (
            loss(math.nan, 0.75),
            "different",
            "2 of 4 points of metrics differ, by up to 0.5 (tolerance 0.001), "
            "1 infinite or not a number; first train/loss at step 2: 0.5 -> nan",
        ),
        (loss(-math.inf), "different", "1 of 4 points of metrics differ, 1 infinite"),
        (loss(-1e308), "different", "by up to 1 (tolerance 0.001)"),
        ({}, "different", "4 of 4 points of metrics differ, 4 of them in one of the two only"),
    ],
)
def test_a_rerun_is_judged_by_every_point_of_its_metrics(now, kind, said):
    verdict = judge(record(), record(now), [], TOLERANCE)
    assert verdict.kind == kind
    assert said in verdict.detail
    assert "inf," not in verdict.detail
    assert str(verdict) == f"{kind}: {verdict.detail}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_in_both_is_equal(value):
    assert judge(record(loss(value)), record(loss(value)), [], 0.0).kind == "identical"


def test_values_of_opposite_signs_have_a_size_however_large_they_are():
    verdict = judge(record(loss(-1e308)), record(loss(1e308)), [], TOLERANCE)
    assert "by up to 2 (tolerance 0.001)" in verdict.detail


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ({}, DIGESTS, "the record has no digest of the predictions"),
        (DIGESTS, {}, "the rerun has no digest of the predictions"),
        ({}, {}, "the record has no digest of the predictions"),
        (DIGESTS, {"val": "e"}, "the predictions' digests differ"),
    ],
)
def test_without_the_same_digest_nothing_is_identical(then, now, said):
    before = record(predictions=then)
    same = judge(before, record(predictions=now), DRIFT, TOLERANCE)
    assert same.kind == "equivalent"
    assert same.detail == f"{SAME_BITS}; {said}"
    near = judge(before, record(loss(0.5001), now), DRIFT, TOLERANCE)
    assert near.kind == "equivalent"
    assert near.detail.endswith(f"first train/loss at step 2: 0.5 -> 0.5001; {said}")


def test_verdict_names_drift_before_differing_results():
    verdict = judge(record(), record(loss(0.75)), DRIFT, TOLERANCE)
    assert verdict.kind == "different"
    assert verdict.detail.startswith("data train: 100 rows (a) -> 99 rows (b); 1 of 4 points")
    assert "code" not in verdict.detail
    assert "machine" not in verdict.detail


def test_a_tolerance_of_nothing_allows_nothing():
    assert judge(record(), record(loss(0.5 + 2**-50)), [], 0.0).kind == "different"


def test_what_a_record_says_is_no_command_to_a_terminal():
    verdict = judge(record(), record(HISTORIES | {"\x1b[2J": {1: 1.0}}), [], TOLERANCE)
    assert "first \\x1b[2J at step 1" in verdict.detail
