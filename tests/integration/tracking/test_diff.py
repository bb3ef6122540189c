"""What differs between two runs, and how a command says so."""

import json
from pathlib import Path

import pytest

from pipeline.evaluation.names import is_cost
from pipeline.tracking.diff import diff
from pipeline.tracking.logged import LoggedRun
from tests.support.rows import rows, write_rows
from tests.support.stores import make_store, tiny_config


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> list[str]:
    """The override of a store and the ids of two runs in it, of different learning rates."""
    folder = tmp_path_factory.mktemp("diff")
    tiny = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(120)))
    rates = [f"optimizer.learning_rate={rate}" for rate in ("1e-2", "1e-3")]
    store = make_store(folder, *([*tiny, rate, "training.threads=1"] for rate in rates))
    ids = {run.data.params["optimizer.learning_rate"]: run.info.run_id for run in store.runs("run")}
    return [store.where, ids["0.01"], ids["0.001"]]


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


def test_runs_that_differ_are_told_apart_by_config_and_result(cli, made):
    where, a, b = made
    ended = cli("diff", a, b, where)
    assert (ended.code, ended.err) == (1, "")
    lines = ended.out.splitlines()
    assert lines[0].split()[:2] == ["a", a]
    assert ["optimizer.learning_rate", "0.01", "0.001"] in [line.split() for line in lines]
    assert not any(line.startswith(("tracking.", "seed")) for line in lines)
    for what in ("data", "model", "code", "machine"):
        assert f"{what:11} same" in lines
    assert "predictions different" in lines
    assert any(line.startswith("packages    same: all ") for line in lines)
    metrics = [line.split()[0] for line in lines[lines.index("") :] if "/" in line]
    assert "val/best/loss" in metrics
    costs = [is_cost(metric) for metric in metrics]
    assert costs == sorted(costs)
    assert any(costs)


def test_a_run_is_the_same_as_itself_and_as_its_export(cli, made):
    where, a, _ = made
    assert cli("export", a, "kept", where).code == 0
    ended = cli("diff", a, "kept", where)
    assert (ended.code, ended.err) == (0, "")
    assert "metrics     same" in ended.out
    # Two folders need no store, and none is made.
    assert cli("diff", "kept", "kept").code == 0
    assert not Path("mlruns").exists()


def test_json_has_every_difference_as_values(cli, made):
    where, a, b = made
    ended = cli("diff", a, b, where, "--format", "json")
    found = json.loads(ended.out)
    assert ended.code == 1
    assert not found["same"]
    assert found["config"] == {"optimizer.learning_rate": {"a": 0.01, "b": 0.001}}
    assert found["data"] == {"state": "same", "detail": ""}
    loss = found["metrics"]["val/best/loss"]
    assert loss["difference"] == loss["b"] - loss["a"]


def test_what_only_one_has_is_marked_and_every_package_named():
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
def test_what_is_not_recorded_is_not_the_same(missing):
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


def test_what_is_no_run_is_refused(cli, made):
    where, a, _ = made
    unknown = cli("diff", a, "0" * 32, where)
    assert unknown.code == 2
    assert "no such run" in unknown.err
    Path("empty").mkdir()
    assert "no exported run" in cli("diff", a, "empty", where).err
