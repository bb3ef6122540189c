"""What a record stores: data sets that others store at the same time, packages as they are."""

import json

from mlflow.exceptions import MlflowException

from pipeline.config.tracking import TrackingConfig
from pipeline.tracking import Record, open_store
from pipeline.tracking.record import as_json


def test_data_sets_that_another_trial_stores_just_now_are_stored(monkeypatch):
    store = open_store(TrackingConfig("mlruns", None, "tunewright"))
    splits = {"train": {"rows": 3, "digest": "d"}, "validation": {"rows": 2, "digest": "v"}}
    read = {"data": {"name": "a.csv", "source": "files", "splits": splits, "files": {}}}
    write, refused = store.client.log_inputs, []

    def log_inputs(*args):
        if not refused:
            refused.append(MlflowException("UNIQUE constraint failed: datasets.digest"))
            raise refused[0]
        write(*args)

    monkeypatch.setattr(store.client, "log_inputs", log_inputs)
    with Record(store, "run", {}, {}) as record:
        record.inputs(read)
    found = store.client.get_run(record.run_id).inputs.dataset_inputs
    assert [one.dataset.digest for one in found] == ["d", "v"]
    assert refused


def test_the_version_of_a_package_that_is_called_like_a_secret_is_kept():
    packages = {"detect-secrets": "1.5.0", "torch": "2.13.0"}
    stored = json.loads(as_json({"packages": packages, "secret": "hidden"}))
    assert stored == {"packages": packages, "secret": "***"}
