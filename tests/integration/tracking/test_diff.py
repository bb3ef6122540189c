"""`tunewright diff`: two runs, their exports, and what is neither."""

import json
from pathlib import Path

import pytest

from pipeline.evaluation.names import is_cost
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


def test_diff_shows_config_and_results(cli, made):
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
    assert "val/loss" in metrics
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
    loss = found["metrics"]["val/loss"]
    assert loss["difference"] == loss["b"] - loss["a"]


def test_what_is_no_run_is_refused(cli, made):
    where, a, _ = made
    unknown = cli("diff", a, "0" * 32, where)
    assert unknown.code == 2
    assert "no such run" in unknown.err
    Path("empty").mkdir()
    assert "no exported run" in cli("diff", a, "empty", where).err
