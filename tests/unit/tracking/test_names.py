"""Names of runs: short, and still telling keys, values and trials apart."""

import math
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.types import EmbeddedFile
from pipeline.tracking.names import (
    ABBREVIATIONS,
    run_name,
    short_keys,
    short_value,
    trial_colour,
    trial_name,
)
from tests.support.configs import files, model_of

PARTS = st.sampled_from(["lr", "learning_rate", "a", "b", "name"])
KEYS = st.lists(PARTS, min_size=1, max_size=3).map(".".join)


def test_a_trial_is_named_by_its_searched_values():
    searched = {"optimizer.learning_rate": 3e-4, "training.batch_size": 16}
    assert trial_name(2, searched) == "2 · lr=3e-4 bs=16"
    assert trial_name(2, searched, repeat=1) == "2 · lr=3e-4 bs=16 · repeat 1"


def test_a_trial_has_a_colour_that_its_neighbours_do_not_have():
    colours = [trial_colour(number) for number in range(30)]
    assert all(len({*colours[n : n + 10]}) == 10 for n in range(20))


def test_a_short_key_is_that_of_no_other_searched_key_whether_open_in_the_trial_or_not():
    keys = ["adapter.dropout", "model.dropout", "optimizer.lr", "optimizer.learning_rate"]
    named = trial_name(0, {"adapter.dropout": 0.1, "optimizer.learning_rate": 1}, keys)
    assert named == "0 · adapter.dropout=0.1 learning_rate=1"


@settings(deadline=None)
@given(st.sets(KEYS))
def test_short_keys_are_unique_and_end_as_the_keys_do(keys):
    short = short_keys(sorted(keys))
    assert len(set(short.values())) == len(keys)
    long = {short: name for name, short in ABBREVIATIONS.items()}
    for key, form in short.items():
        *start, last = form.split(".")
        whole = ".".join([*start, long.get(last, last)])
        assert f".{key}".endswith((f".{form}", f".{whole}"))


@settings(deadline=None)
@given(st.floats(-1e300, 1e300, allow_subnormal=False))
def test_a_number_is_short_and_right_to_three_digits(value):
    shown = short_value("x", value)
    assert len(shown) <= 10
    assert math.isclose(float(shown), value, rel_tol=5e-3)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3e-4, "3e-4"),
        (0.05, "0.05"),
        (16, "16"),
        (True, "true"),
        (None, "null"),
        ("../models/tiny", "tiny"),
        ([1, 2], "[1, 2]"),
        ("x" * 30, f"{'x' * 23}…"),
        ("\x1b", "\\x1b"),
    ],
)
def test_values_as_a_name_has_them(value, shown):
    assert short_value("key", value) == shown


def test_a_name_has_no_secret():
    assert "hunter2" not in trial_name(0, {"api_token": "hunter2"})


def test_a_run_is_named_by_model_data_and_time():
    model = model_of(EmbeddedFile("some-package", "a/b", "0" * 64))
    data, when = files(train="/far/reviews/train.csv"), datetime(2026, 11, 29, 2, 49, 58)
    named = run_name(model, data, {"model": "minilm", "data": "files"}, when)
    assert named == "minilm · reviews/train.csv · 2026-11-29 02:49:58"
    named = run_name(model_of("google-bert/bert-base-uncased"), data, {"model": "hub"}, when)
    assert named.startswith("bert-base-uncased · ")
