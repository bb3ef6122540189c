"""The names of objectives and the values of metrics in a table."""

from types import SimpleNamespace

import pytest

from pipeline.tasks.objective import Objective, parse
from pipeline.tracking.overview import number, score_of


def test_an_objective_has_the_name_that_its_metric_is_logged_by():
    found = Objective("val/f1/so so.exclamation mark.", "maximize", "mean3")
    assert parse("val/f1/so so!@mean3", "maximize") == found
    assert parse(f"{found.metric}@mean3", "maximize") == found
    assert parse("val/f1/a/b", "maximize").metric == "val/f1/a.solidus.b"
    assert [parse(metric, "minimize").metric for metric in ("", "loss", "a/")] == ["", "loss", "a/"]


def test_a_logged_value_is_a_number_only_where_it_is_written_as_one():
    assert [number(t) for t in ("16", "1e-05", "-0.5")] == [16, 1e-5, -0.5]
    others = ["012", "True", "1_000", "nan", "1e999", "٣", "1" * 5000, ""]
    assert [number(t) for t in others] == others


@pytest.mark.parametrize(
    ("state", "metrics", "score"),
    [
        (
            "complete",
            {"early/f1": 0.1, "early/best/f1": 0.1, "val/f1": 0.2, "val/best/f1": 0.3},
            0.3,
        ),
        ("pruned", {"early/f1": 0.1, "early/best/f1": 0.4}, 0.4),  # what its search was told
        ("failed", {"val/f1": 0.2, "val/best/f1": 0.2}, None),
    ],
)
def test_a_runs_score_is_what_its_state_leaves_it(state, metrics, score):
    data = SimpleNamespace(metrics=metrics, tags={"tunewright.state": state})
    assert score_of(None, SimpleNamespace(data=data), "val/f1") == score
