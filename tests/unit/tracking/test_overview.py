"""The names of objectives, the values of metrics and the order of trials in a table."""

import json
from types import SimpleNamespace

import pytest

from pipeline.config.tracking import TrackingConfig
from pipeline.tasks.objective import Objective, parse
from pipeline.tracking import Store, tags
from pipeline.tracking.overview import compare, number, runs, score_of
from tests.support.studies import DEAD


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


def test_trials_of_older_versions_are_ranked_by_their_best_evaluation(working_folder):
    store = Store(TrackingConfig(str(working_folder), None, "mine"))
    goal = {tags.OBJECTIVE: "val/f1", tags.DIRECTION: "maximize", tags.STUDY: "s"}
    store.client.create_run(store.experiment_id, tags={tags.KIND: "study", **goal})
    for place, (best, last) in enumerate([(0.5, 0.4), (0.9, 0.1), (0.6, 0.6)]):
        known = {
            tags.KIND: "trial",
            tags.STUDY: "s",
            tags.STATE: "complete",
            tags.TRIAL: str(place),
        }
        run_id = store.client.create_run(store.experiment_id, place, known).info.run_id
        for name, value in {"": last, "best/": best, "last/": last}.items():
            store.client.log_metric(run_id, f"val/{name}f1", value)
        store.client.log_metric(run_id, "val/best/step", 1)
    rows = compare(store, ["s"], 2).rows
    assert [(row[0], row[1]) for row in rows] == [(1, 0.9), (2, 0.6)]
    hinted = runs(store, "metrics.`val/best/f1` > 0.5", 9)
    assert len(hinted.rows) == 2
    assert "val/best/… as val/…" in hinted.note


def test_trials_of_equal_scores_are_listed_in_their_order_and_killed_ones_last(working_folder):
    store = Store(TrackingConfig(str(working_folder), None, "mine"))
    goal = {tags.OBJECTIVE: "val/f1", tags.DIRECTION: "maximize", tags.STUDY: "s"}
    store.client.create_run(store.experiment_id, tags={tags.KIND: "study", **goal})

    def trial(place: int, state: str, score: float) -> None:
        known = {tags.KIND: "trial", tags.STUDY: "s", tags.STATE: state, tags.TRIAL: str(place)}
        known[tags.PROCESS] = json.dumps(DEAD)
        run_id = store.client.create_run(store.experiment_id, place, known).info.run_id
        store.client.log_metric(run_id, "val/f1", score)
        if state != "running":
            store.client.set_terminated(run_id)

    trial(0, "running", 0.9)  # its process is gone
    trial(1, "paused", 0.1)
    for place in (2, 3, 4):
        trial(place, "complete", 0.5)

    def listed(limit: int) -> list:
        return [row[0] for row in compare(store, ["s"], limit).rows]

    assert listed(5) == [2, 3, 4, 1, 0]
    assert listed(2) == [2, 3]


def test_a_filter_is_told_from_the_name_of_a_study(working_folder):
    store = Store(TrackingConfig(str(working_folder), None, "mine"))
    for name in ("what is best", "other"):
        known = {tags.KIND: "study", tags.STUDY: name, tags.STATE: "complete"}
        store.client.create_run(store.experiment_id, tags=known)

    def found(condition: str) -> list[object]:
        table = runs(store, condition, 9)
        return [row[table.columns.index("study")] for row in table.rows]

    assert found("what is best") == ["what is best"]
    for compared in (" LIKE ", "\tLIKE\n", " LIKE"):
        assert found(f"tags.`{tags.STUDY}`{compared}'oth%'") == ["other"]
