"""A kept model as one of MLflow's logged models, from which run, scores and registry are found."""

import json
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from pipeline.config.tracking import TrackingConfig
from pipeline.jobs import study_record
from pipeline.jobs.study_record import StudyRecord, name_best
from pipeline.search.study.trials import RUN_ID
from pipeline.tracking import Store, open_store, tags
from pipeline.tracking.kept_models import delete_model, has_model, logged_model
from tests.support.stores import Made, artifact


@pytest.fixture
def store(working_folder):
    return Made(working_folder)


@pytest.fixture
def kept(cli, tiny, store):
    """Return the run of a training with a test split, and its logged model."""
    assert cli("train", *tiny, "evaluation.test=true", store.where).code == 0
    (run,) = store.client.search_runs([experiment(store)])
    (model,) = store.client.search_logged_models([experiment(store)])
    return run, model


def store_of(made: Made) -> Store:
    return open_store(TrackingConfig(str(made.folder / "mlruns"), None, "tunewright"))


def experiment(store) -> str:
    return store.client.get_experiment_by_name("tunewright").experiment_id


def test_run_and_model_lead_to_each_other(kept):
    run, model = kept
    assert (model.name, model.source_run_id, str(model.status)) == (
        "model",
        run.info.run_id,
        "READY",
    )
    (output,) = run.outputs.model_outputs
    assert (output.model_id, output.step) == (model.model_id, run.data.metrics["best/step"])
    assert run.data.tags[tags.MODEL] == model.model_id
    assert model.params == run.data.params
    assert f"predict {model.model_id} " in model.tags["mlflow.note.content"]
    for tag in ("mlflow.user", "mlflow.source.name"):
        assert model.tags[tag] == run.data.tags[tag]
    assert model.model_type == "classification"
    assert model.artifact_location == artifact(run, "model").as_uri()


def test_a_model_has_the_scores_of_its_run_with_their_data(kept, store):
    run, model = kept
    judged = {k: v for k, v in run.data.metrics.items() if k.startswith(("val/", "test/"))}
    assert {m.key: m.value for m in model.metrics} == judged
    splits = {
        i.tags[0].value: (i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs
    }
    for metric in model.metrics:
        split = "validation" if metric.key.startswith("val/") else "test"
        assert (metric.dataset_name, metric.dataset_digest) == splits[split]
    points = store.client.get_metric_history(run.info.run_id, "val/loss")
    closing = run.data.metrics["best/step"] != max(point.step for point in points)
    assert len(points) == len({point.step for point in points}) + closing  # none for the model


def test_a_search_keeps_one_logged_model(cli, tiny, store):
    ended = cli("train", "-m", *tiny, "optimizer.learning_rate=1e-5,1e-3,1e-2", store.where)
    assert ended.code == 0, ended.err
    runs = store.client.search_runs([experiment(store)])
    (study,) = [run for run in runs if run.data.tags[tags.KIND] == "study"]
    best = study.data.tags[tags.BEST_RUN]
    (model,) = store.client.search_logged_models([experiment(store)])
    assert model.source_run_id == best
    assert [run.info.run_id for run in runs if tags.MODEL in run.data.tags] == [best]
    kept = Path(store.folder, "mlruns", "artifacts", "models").iterdir()
    assert [folder.name for folder in kept] == [model.model_id]
    trials = [artifact(run, "") for run in runs if run is not study]
    folders = [*trials, artifact(next(run for run in runs if run.info.run_id == best), "model")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert study.data.metrics["spent/disk"] == sum(file.stat().st_size for file in files)


def test_a_search_keeps_the_models_of_its_best_trials(cli, tiny, store):
    def search(most: int, keep: int) -> None:
        given = ["optimizer.learning_rate=interval(1e-4,1e-2)", f"tracking.keep_models={keep}"]
        study = ["hydra.sweeper.study_name=s", f"hydra.sweeper.n_trials={most}"]
        ended = cli("train", "-m", *tiny, *given, *study, store.where)
        assert ended.code == 0, ended.err
        trials = store.client.search_runs([experiment(store)], "tags.`tunewright.kind` = 'trial'")
        trials.sort(
            key=lambda run: (-run.data.metrics["val/f1_macro"], int(run.data.tags[tags.TRIAL]))
        )
        kept = [run.data.tags[tags.TRIAL] for run in trials if tags.MODEL in run.data.tags]
        assert kept == [run.data.tags[tags.TRIAL] for run in trials[:keep]]
        models = Path(store.folder, "mlruns", "artifacts", "models")
        assert len(list(models.iterdir())) == keep

    search(3, 2)
    assert cli("doctor", store.where).code == 0  # which knows how many
    search(4, 1)


def test_a_trial_that_ends_while_the_best_is_named_keeps_its_model(cli, tiny, store, monkeypatch):
    both = ["optimizer.learning_rate=1e-3,1e-2", "tracking.keep_models=2"]
    assert cli("train", "-m", *tiny, *both, "hydra.sweeper.study_name=s", store.where).code == 0
    study = optuna.create_study(study_name="s", direction="maximize")
    first, second = study.ask(), study.ask()
    for trial, run in zip((first, second), store.runs("trial"), strict=True):
        trial.set_user_attr(RUN_ID, run.info.run_id)
    study.tell(first, 0.1)

    def name_and_end(*given):
        stay = name_best(*given)
        study.tell(second, 0.9)
        return stay

    monkeypatch.setattr(study_record, "name_best", name_and_end)
    (parent,) = store.runs("study")
    record = StudyRecord(store_of(store).config, parent.info.run_id, ["val/loss"], "val/loss")
    record.progressed(study, study.trials[:1])
    assert has_model(store_of(store), store.client.get_run(second.user_attrs[RUN_ID]))


def test_a_version_in_the_registry_names_its_logged_model(cli, kept, store, monkeypatch):
    import mlflow

    run, model = kept
    assert cli("register", run.info.run_id, "stars", store.where).code == 0
    version = store.client.get_model_version("stars", "1")
    assert (version.run_id, version.source) == (run.info.run_id, model.artifact_location)
    known = store.client.get_logged_model(model.model_id).tags["mlflow.modelVersions"]
    assert json.loads(known) == [{"name": "stars", "version": 1}]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.client.tracking_uri)
    for uri in (f"models:/{model.model_id}", f"runs:/{run.info.run_id}/model", "models:/stars/1"):
        assert mlflow.models.get_model_info(uri).model_id == model.model_id
    where = ["--input", "reviews.jsonl", "--output"]
    for name, out in ((model.model_id, "a.jsonl"), (f"models:/{model.model_id}", "b.jsonl")):
        assert cli("predict", name, store.where, *where, out).code == 0
    assert Path("a.jsonl").read_text() == Path("b.jsonl").read_text()


def test_a_model_that_cannot_be_stored_leaves_nothing(cli, tiny, store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", full)
    assert cli("train", *tiny, store.where).code == 2
    (run,) = store.client.search_runs([experiment(store)])
    assert run.data.tags[tags.STATE] == "failed"
    assert tags.MODEL not in run.data.tags
    assert not store.client.search_logged_models([experiment(store)])
    assert not list(Path(store.folder, "mlruns", "artifacts", "models").iterdir())


def test_a_model_that_was_registered_in_mlflow_stays(kept, store):
    run, model = kept
    versions = {"mlflow.modelVersions": json.dumps([{"name": "stars", "version": 1}])}
    store.client.set_logged_model_tags(model.model_id, versions)
    delete_model(store_of(store), run.info.run_id)
    assert (artifact(run, "model") / "MLmodel").is_file()


def test_what_a_killed_process_left_of_a_model_goes_with_the_next_one(kept, store):
    run, model = kept
    left = store.client.create_logged_model(experiment(store), "model", run.info.run_id)
    with logged_model(store_of(store), run.info.run_id, step=1) as made:
        pass
    found = [m.model_id for m in store.client.search_logged_models([experiment(store)])]
    assert found == [made]
    assert not {left.model_id, model.model_id} & {made}


def test_a_deletion_that_was_cut_off_is_found_and_ended(kept, store):
    run, model = kept
    store.client.delete_logged_model(model.model_id)  # then it was killed
    assert has_model(store_of(store), run)
    delete_model(store_of(store), run.info.run_id)
    assert not artifact(run, "model").exists()
    assert tags.MODEL not in store.client.get_run(run.info.run_id).data.tags
