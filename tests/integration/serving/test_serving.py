"""Kept models: read again, registered, and asked by `predict` about files."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.cli import main
from pipeline.common.errors import ModelError, TrackingError
from pipeline.config.tracking import TrackingConfig
from pipeline.serving import saved
from pipeline.serving.predictor import Predictor
from pipeline.tracking import open_store
from pipeline.tracking.kept_models import REGISTERED, delete_model
from pipeline.tracking.registry import register
from tests.support.broken import cut
from tests.support.rows import rows, write_rows
from tests.support.served import (
    INPUTS,
    TASKS,
    TEMPLATE,
    assert_same,
    predicted,
    run_of,
)
from tests.support.stores import Made, artifact, forget, predictions_of


@pytest.mark.parametrize("task", TASKS)
def test_kept_model_has_a_signature_and_no_pickle(task, made):
    from mlflow.models import Model

    folder = artifact(run_of(made, task), "model")
    model = Model.load(folder)
    assert {column.name for column in model.signature.inputs} == INPUTS[task]
    assert {"prediction"} <= {column.name for column in model.signature.outputs}
    assert set(model.load_input_example(str(folder)).columns) == INPUTS[task]
    assert "cloudpickle" not in (folder / "MLmodel").read_text()
    assert str(made.folder) not in (folder / "MLmodel").read_text()
    modes = {(folder / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1  # who may read one may read all
    assert str(made.folder) not in (folder / "tunewright.json").read_text()
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert file.suffix not in (".pkl", ".bin", ".pt", ".pth")
        start = file.read_bytes()[:4]
        assert start[:1] != b"\x80", file  # of a pickle
        assert start != b"PK\x03\x04", file  # of torch's


def test_a_chat_template_of_a_file_is_kept_with_the_model(made):
    folder = artifact(run_of(made, "chat"), "model")
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE
    assert json.loads((folder / "tunewright.json").read_text())["task"]["chat_template"] is None


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_that_the_run_logged(task, made, cli):
    run = run_of(made, task)
    data, out = made.folder / f"{task}.jsonl", Path("out.csv")
    where = ["--input", str(data), "--output", str(out), "--batch-size", "3"]
    assert cli("predict", run.info.run_id, made.where, *where).code == 0
    with out.open(encoding="utf-8", newline="") as stream:
        found = {line.pop("id"): line for line in csv.DictReader(stream)}
    assert len(found) == len(data.read_text().splitlines())
    logged = predictions_of(run)
    assert logged
    for row in logged:
        for key, cell in found[row["id"]].items():
            value = cell if isinstance(row[key], str) else json.loads(cell)
            many = isinstance(value, list)
            assert_same(value if many else [{key: value}], row[key] if many else [{key: row[key]}])


def test_a_registered_model_is_found_by_name(made, cli, monkeypatch):
    run = run_of(made, "classification")
    for version in (1, 2):
        done = cli("register", run.info.run_id, "sentiment", made.where)
        assert (done.code, done.err) == (0, "")
        assert f"registered  sentiment, version {version}\n" in done.out
        assert f"mlflow models serve -m models:/sentiment/{version}" in done.out
    version = made.client.get_model_version("sentiment", "1")
    assert version.run_id == run.info.run_id
    assert version.tags["tunewright.task"] == "classification"
    score = run.data.metrics["val/f1_macro"]
    assert float(version.tags["tunewright.score"]) == pytest.approx(score, abs=1e-5)
    made.client.set_registered_model_alias("sentiment", "champion", "1")
    write_rows(Path("in.jsonl"), rows(10))
    names = ("models:/sentiment/1", "sentiment", "models:/sentiment@champion", run.info.run_id)
    folder = artifact(run, "model")
    for i, name in enumerate((*names, str(folder))):
        files = ["--input", "in.jsonl", "--output", f"{i}.jsonl"]
        assert cli("predict", name, made.where, *files).code == 0
    texts = {Path(f"{i}.jsonl").read_text() for i in range(len(names) + 1)}
    assert len(texts) == 1
    import mlflow
    import pandas as pd

    # Not set_tracking_uri: it would stay in the environment of later tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.client.tracking_uri)
    # MLflow puts the model's copy of our modules first, which new processes would import.
    monkeypatch.setattr(sys, "path", sys.path[:])
    loaded = mlflow.pyfunc.load_model("models:/sentiment/1")
    answers = loaded.predict(pd.DataFrame([{"review": r["review"]} for r in rows(10)]))
    lines = predicted(Path("0.jsonl"))
    assert_same(answers, [{k: v for k, v in line.items() if k != "id"} for line in lines])


def test_a_search_leaves_a_registered_model_alone(made, cli):
    run = run_of(made, "translation")
    assert cli("register", run.info.run_id, "kept", made.where).code == 0
    tracking = TrackingConfig(str(made.folder / "mlruns"), None, "tunewright")
    delete_model(open_store(tracking), run.info.run_id)
    assert artifact(run, "model").is_dir()


def test_a_refused_name_leaves_a_run_as_it_was(made, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*_, **__):
        raise MlflowException("the disk is full")

    tracking = TrackingConfig(str(made.folder / "mlruns"), None, "tunewright")
    run_id = run_of(made, "summarization").info.run_id
    store = open_store(tracking)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", refuse)
        with pytest.raises(TrackingError, match="refuses it: the disk is full"):
            register(store, run_id, "short")
    assert REGISTERED not in made.client.get_run(run_id).data.tags
    register(store, run_id, "short")
    tag = made.client.get_run(run_id).data.tags[REGISTERED]
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", refuse)
        with pytest.raises(TrackingError):
            register(store, run_id, "shorter")
    assert made.client.get_run(run_id).data.tags[REGISTERED] == tag == '["short"]'


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (f"register {'0' * 32} a", ["no such run"]),
        ("register RUN a/b", ["'a/b'", "expected one without /, : or @"]),
        (f"register RUN {'a' * 32}", ["looks like the id of a run"]),
        ("register BARE a", ["keeps no model", "complete"]),
        ("predict BARE --input in.jsonl --output o.jsonl", ["keeps no model"]),
        ("predict nobody --input in.jsonl --output o.jsonl", ["no model of that name"]),
        ("predict models:/x/1 --input in.jsonl --output o.jsonl", ["no model of that name"]),
        ("predict RUN --input no.jsonl --output o.jsonl", ["no such file"]),
        ("predict RUN --input in.jsonl --output in.jsonl", ["is the input file"]),
        ("predict RUN --input in.jsonl --output there.csv", ["--force"]),
        ("predict RUN --input in.jsonl --output o.txt", [".jsonl or .csv"]),
        ("predict RUN --input in.jsonl --output no/o.csv", ["the folder no does not exist"]),
        ("predict RUN --input bad.jsonl --output o.jsonl", ["bad.jsonl:21", "' '"]),
        ("predict RUN --input other.jsonl --output o.csv", ["'review' (data.text)", "reviews"]),
        ("predict . --input in.jsonl --output o.csv", ["expected tunewright.json"]),
        ("predict RUN --batch-size 0 --input in.jsonl --output o.csv", ["--batch-size 0"]),
    ],
)
def test_invalid_register_and_predict_are_refused_and_leave_nothing(
    arguments, fragments, made, cli
):
    run = run_of(made, "classification")
    bare = made.client.create_run(
        run.info.experiment_id, tags={"tunewright.kind": "run", "tunewright.state": "failed"}
    )
    made.client.set_terminated(bare.info.run_id)
    ids = {"RUN": run.info.run_id, "BARE": bare.info.run_id}
    write_rows(Path("in.jsonl"), rows(20))
    write_rows(Path("bad.jsonl"), [*rows(20), {"review": " "}])
    write_rows(Path("other.jsonl"), [{"reviews": "good"}])
    Path("there.csv").touch()
    before = sorted(os.listdir("."))
    done = cli(*(ids.get(word, word) for word in arguments.split()), made.where)
    made.client.delete_run(bare.info.run_id)
    assert done.code == 2
    for fragment in fragments:
        assert fragment in done.err
    assert sorted(os.listdir(".")) == before


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Made:
    """A store that the tests below share: making one takes a second."""
    return Made(tmp_path_factory.mktemp("store"))


def latest(store: Made):
    return max(store.runs("run"), key=lambda run: run.info.start_time)


def broken(change):
    """Return a `save` that changes the weights it has written."""
    save = saved.save

    def saving(folder, *args):
        model = save(folder, *args)
        file = folder / "model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file, {"format": "pt"})
        return model

    return saving


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda w: w.pop("classifier.weight"), "the weights lack classifier.weight"),
        (lambda w: w["classifier.bias"].add_(torch.tensor([0.5, 0.0])), "logits: differs by up to"),
    ],
    ids=["lacking", "other"],
)
def test_a_model_that_is_saved_wrong_fails_its_run(
    adapter, change, fragment, cli, tiny, store, monkeypatch
):
    monkeypatch.setattr(saved, "save", broken(change))
    done = cli("train", *tiny, f"adapter={adapter}", store.where)
    assert done.code == 2
    assert fragment in done.err
    run = latest(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["tunewright.state"] == "failed"
    assert not artifact(run, "model").exists()
    assert not list((store.folder / "mlruns" / "outputs").rglob("*.safetensors"))


def test_labels_in_another_order_are_found(cli, tiny, store, monkeypatch):
    write = saved.write

    def turned(description, folder):
        from dataclasses import replace

        counts = dict(reversed(description.label_counts.items()))
        write(replace(description, label_counts=counts), folder)

    monkeypatch.setattr(saved, "write", turned)
    done = cli("train", *tiny, store.where)
    assert done.code == 2
    assert "row reviews.jsonl:" in done.err
    assert "predicts differently from the trained one in memory" in done.err


@pytest.mark.parametrize("adapter", ["lora", "ia3"])
def test_an_adapter_is_kept_merged_and_alone(adapter, cli, tiny, store):
    assert cli("train", *tiny, f"adapter={adapter}", store.where).code == 0
    folder = artifact(latest(store), "model")
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert not any("lora" in name for name in load_file(folder / "model.safetensors"))


def test_an_adapter_that_is_saved_wrong_fails_its_run(cli, tiny, store, monkeypatch):
    save = saved.save

    def saving(folder, *args):
        model = save(folder, *args)
        file = folder / "adapter" / "adapter_model.safetensors"
        weights = load_file(file)
        save_file({k: v * 3 + 0.2 for k, v in weights.items()}, file)
        return model

    monkeypatch.setattr(saved, "save", saving)
    done = cli("train", *tiny, "adapter=lora", store.where)
    assert done.code == 2
    assert "the saved adapter predicts differently" in done.err


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda text: text[:-9], "expected JSON"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "from a later version"),
        (lambda text: text.replace('"max_length": ', '"max_length": -'), "max_length"),
        (lambda text: text.replace('"columns"', '"column"'), "column"),
        (lambda text: text.replace('"stride"', '"strides"'), "strides"),
        (lambda text: text.replace('"neg"', '"zzz": 1, "neg"'), "the weights cannot be loaded"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(change, fragment, made, working_folder):
    folder = working_folder / "model"
    shutil.copytree(artifact(run_of(made, "classification"), "model"), folder)
    file = folder / "tunewright.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(ModelError) as refused:
        Predictor.load(folder)
    assert fragment in str(refused.value)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("config.json", "config.json: it cannot be read as JSON"),
        ("model.safetensors", "model.safetensors: the weights cannot be loaded"),
    ],
)
def test_a_cut_file_of_a_model_is_named_by_its_folder(name, fragment, made, working_folder):
    folder = working_folder / "model"
    shutil.copytree(artifact(run_of(made, "classification"), "model"), folder)
    cut(name)(folder)
    with pytest.raises(ModelError) as refused:
        Predictor.load(folder)
    assert str(refused.value).startswith(f"{folder}: {fragment}")
    assert str(refused.value).endswith("copy the whole folder from there again.")


def test_a_file_that_a_description_names_is_not_read(made, working_folder):
    folder = working_folder / "model"
    shutil.copytree(artifact(run_of(made, "chat"), "model"), folder)
    other = working_folder / "other.jinja"
    other.write_text("stolen")
    file = folder / "tunewright.json"
    named = f'"chat_template": "{other}"'
    file.write_text(file.read_text().replace('"chat_template": null', named))
    task = Predictor.load(folder).task
    assert task.config.chat_template is None
    assert task.checkpoint.tokenizer.chat_template == TEMPLATE


def test_a_file_is_read_in_parts(made, cli, monkeypatch):
    """Of a file no more is in memory than a part."""
    from pipeline.serving import predict

    ahead, most = 0, []
    read_records, answer = predict.read_records, Predictor.predict

    def counted(path, encoding):
        nonlocal ahead
        for record in read_records(path, encoding):
            ahead += 1
            yield record

    def answered(self, records, *args):
        nonlocal ahead
        most.append(ahead)
        ahead -= len(records)
        return answer(self, records, *args)

    monkeypatch.setattr(predict, "read_records", counted)
    monkeypatch.setattr(Predictor, "predict", answered)
    with Path("many.jsonl").open("w") as stream:
        for record in rows(100) * 30:
            stream.write(json.dumps(record) + "\n")
    run_id = run_of(made, "classification").info.run_id
    files = ["--input", "many.jsonl", "--output", "out.jsonl", "--batch-size", "16"]
    assert cli("predict", run_id, made.where, *files).code == 0
    assert len(most) == 12
    assert max(most) == 16 * predict.BATCHES_A_PART
    assert len(predicted(Path("out.jsonl"))) == 3000


def test_force_replaces_and_a_stop_leaves_nothing(made, monkeypatch):
    forget()
    run_id = run_of(made, "classification").info.run_id
    write_rows(Path("in.jsonl"), rows(20))
    Path("out.jsonl").write_text("former")
    command = ["predict", run_id, made.where, "--input", "in.jsonl", "--output", "out.jsonl"]

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", stopped)
        assert main([*command, "--force"]) == 130
    assert Path("out.jsonl").read_text() == "former"
    assert sorted(os.listdir(".")) == ["in.jsonl", "out.jsonl"]
    assert main([*command, "--force"]) == 0
    assert len(predicted(Path("out.jsonl"))) == 20
