"""What differs between two runs, and how it is shown."""

import json

import pytest

from pipeline.tracking.diff import diff
from pipeline.tracking.logged import LoggedRun


def logged(**changes) -> LoggedRun:
    """Return a record in which all is known."""
    split = {"rows": 9, "digest": "d"}
    provenance = {
        "tunewright": {"version": "1", "source": "s"},
        "project": None,
        "python": "CPython 3.13",
        "packages": {"torch": "2.9", "numpy": "2.0"},
        "machine": {"cores": 2},
    }
    model = {"weights": "w", "config": "c", "tokenizer": "t"}
    known = {
        "place": "run 1",
        "run_id": "1",
        "name": "one",
        "experiment": None,
        "state": "complete",
        "config": b"seed: 1\noptimizer:\n  learning_rate: 0.1\n",
        "provenance": provenance,
        "inputs": {"data": {"splits": {"train": split}}, "model": model},
        "predictions": {"val": "p"},
        "histories": {"val/f1": {2: 0.5, 1: 0.1}, "cost/train_seconds": {2: 7.0}},
    }
    return LoggedRun(**(known | changes))


def test_diff_marks_values_of_one_run_and_names_packages():
    packages = {f"p{i}": "1" for i in range(30)}
    provenance = logged().provenance | {"packages": packages}
    config = b"seed: null\noptimizer:\n  momentum: 0.9\n"
    text = diff(logged(), logged(config=config, provenance=provenance)).as_text()
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    rows = {key: rest[0] for key, *rest in filter(None, lines)}
    assert rows["seed"].split() == ["1", "null"]
    assert rows["optimizer.learning_rate"] == "0.1          (not there)"
    assert rows["torch"].split(maxsplit=1) == ["2.9", "(not there)"]
    assert {f"p{i}" for i in range(30)} <= rows.keys()


def test_the_last_value_counts_and_seconds_do_not():
    slower = {"val/f1": {1: 0.3, 2: 0.5}, "cost/train_seconds": {2: 9.0}}
    found = diff(logged(), logged(histories=slower))
    assert found.is_same
    assert found.metrics == {"cost/train_seconds": {"a": 7.0, "b": 9.0}}
    nan = {"val/f1": {1: float("nan")}}
    assert diff(logged(histories=nan), logged(histories=nan)).metrics == {}
    against = diff(logged(), logged(histories=nan))
    assert json.loads(against.as_json())["metrics"]["val/f1"]["b"] is None


@pytest.mark.parametrize("missing", ["provenance", "inputs", "predictions"])
def test_unrecorded_values_are_not_equal(missing):
    found = diff(logged(), logged(**{missing: {}}))
    assert not found.is_same
    assert "cannot be known" in found.as_text()


def test_what_a_record_says_is_no_command_to_a_terminal():
    evil = "\x1b[2J\u202e"
    odd = logged(
        name=evil,
        state=evil,
        provenance={"packages": {evil: evil}, "python": evil},
        histories={evil: {1: 1.0}},
    )
    found = diff(logged(), odd)
    assert not {"\x1b", "\u202e"} & set(found.as_text() + found.as_json())
    assert "\\x1b[2J" in found.as_text()
