"""What is read back of a run's metrics: histories, final values, those of older records."""

from types import SimpleNamespace

import pytest

from pipeline.config.tracking import TrackingConfig
from pipeline.tracking.metrics import final_values, history, metrics_of, migrated_metrics
from pipeline.tracking.record import Record
from pipeline.tracking.store import Store

# What an older version logged of a run whose best evaluation was the first of two.
OLD = {
    "val/f1": 0.1,
    "val/best/f1": 0.4,
    "val/last/f1": 0.1,
    "val/best/step": 1.0,
    "val/best/epoch": 0.5,
    "val/majority/f1": 0.2,
    "train/loss": 3.0,
    "data/train_rows": 9.0,
    "cost/data_seconds": 1.0,
    "cost/train_seconds": 2.0,
    "time/boot_seconds": 1.0,
    "time/run_seconds": 4.0,
}


@pytest.fixture
def store(working_folder) -> Store:
    return Store(TrackingConfig(str(working_folder), None, "mine"))


def test_mlflow_shows_the_best_evaluation_and_its_history_is_that_of_all(store):
    with Record(store, "one", {}, {}) as record:
        record.metrics({"val/f1": 0.4}, 1)
        record.metrics({"val/f1": 0.3}, 2)
        record.closing({"val/f1": 0.4}, 2)  # it paused here
        record.metrics({"val/f1": 0.1, "best/step": 1.0}, 3)
        record.closing({"val/f1": 0.4}, 3)
    assert store.client.get_run(record.run_id).data.metrics["val/f1"] == 0.4
    assert history(store, record.run_id, "val/f1") == {1: 0.4, 2: 0.3, 3: 0.1}


def test_run_cut_off_as_it_closes_has_each_point_once(store):
    with Record(store, "one", {}, {}) as record:
        record.metrics({"val/f1": 0.4}, 1)
        record.metrics({"val/f1": 0.1}, 2)
        record.closing({"val/f1": 0.4}, 2)
    with Record(store, "one", {}, {}, run_id=record.run_id, was_cut_off=True) as again:
        again.metrics({"val/f1": 0.1}, 2)
        again.closing({"val/f1": 0.4}, 2)
    points = store.client.get_metric_history(record.run_id, "val/f1")
    assert [(p.step, p.value) for p in points] == [(1, 0.4), (2, 0.1), (2, 0.4)]


def test_the_final_value_is_that_of_the_best_evaluation():
    found = {"val/f1": {1: 0.4, 3: 0.1}, "best/step": {3: 1.0}, "train/loss": {1: 9.0, 3: 2.0}}
    assert final_values(found) == {"val/f1": 0.4, "best/step": 1.0, "train/loss": 2.0}
    assert final_values({"val/f1": {1: 0.4, 3: 0.1}, "train/loss": {}}) == {"val/f1": 0.1}


def test_an_older_record_is_read_by_todays_names():
    latest = metrics_of(SimpleNamespace(data=SimpleNamespace(metrics=OLD)))
    assert latest == {
        "val/f1": 0.4,
        "best/step": 1.0,
        "best/epoch": 0.5,
        "val/majority/f1": 0.2,
        "train/loss": 3.0,
        "cost/train_seconds": 2.0,
        "time/run_seconds": 4.0,
    }
    histories = {name: {2: value} for name, value in OLD.items()}
    histories["val/f1"] = {1: 0.4, 2: 0.1}
    assert migrated_metrics(histories).keys() == latest.keys()
    assert final_values(migrated_metrics(histories)) == latest
