"""A run of training: its record, the model it keeps, and how a broken loss ends it."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipeline.tasks.classification import Classification
from pipeline.tracking.metrics import own_points
from pipeline.tracking.record import Record
from tests.support.rows import rows, write_rows
from tests.support.stores import artifact, splits_of


def history(run, metric: str) -> list[float]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd() / 'mlruns' / 'mlflow.db'}")
    points = client.get_metric_history(run.info.run_id, metric)
    return [point.value for point in own_points(points)]


@pytest.mark.draws
def test_a_run_learns_and_its_record_is_whole(cli, tiny, runs, monkeypatch):
    titles, draw = [], Record.figure

    def drawn(record, figure, file):
        titles.append((file, figure.get_suptitle()))
        draw(record, figure, file)

    monkeypatch.setattr(Record, "figure", drawn)
    ended = cli("train", *tiny, "training.epochs=8", "evaluation.test=true")
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    metrics, params = run.data.metrics, run.data.params
    assert metrics["test/f1_macro"] > metrics["test/majority/f1_macro"]
    assert metrics["val/f1_macro"] == max(history(run, "val/f1_macro"))
    assert len(history(run, "train/loss")) > 1
    assert params["optimizer.learning_rate"] == "0.01"
    assert run.info.status == "FINISHED"
    assert run.data.tags["tunewright.state"] == "complete"
    tested = splits_of(run)["test"]["rows"]
    assert titles == [("confusion_matrix.png", f"test split, {tested} rows")]
    for name in ("config.yaml", "overrides.yaml", "confusion_matrix.png", "train.log"):
        assert artifact(run, name).stat().st_size > 0


def test_the_kept_model_gives_the_logged_predictions_by_label_name(cli, tiny, runs):
    # A rate so high that the best evaluation is not the last: the last weights would answer else.
    cli("train", *tiny, "optimizer.learning_rate=0.3", "training.epochs=3")
    (run,) = runs("run")
    scores = history(run, "val/f1_macro")
    best_of = scores.index(max(scores))
    assert run.data.metrics["best/step"] == 2 * (best_of + 1)  # eval_steps=2
    assert best_of < len(scores) - 1
    assert scores[best_of] > scores[-1]
    table = json.loads(artifact(run, "predictions.json").read_text())
    predictions = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    model = AutoModelForSequenceClassification.from_pretrained(artifact(run, "model"))
    tokenizer = AutoTokenizer.from_pretrained(artifact(run, "model"))
    batch = tokenizer([p["text"] for p in predictions], padding=True, return_tensors="pt")
    best = model.eval()(**batch).logits.argmax(-1).tolist()
    assert [model.config.id2label[i] for i in best] == [p["prediction"] for p in predictions]
    lines = Path("reviews.jsonl").read_text().splitlines()
    for p in predictions:
        source = json.loads(lines[int(p["id"].removeprefix("reviews.jsonl:")) - 1])
        assert (p["text"], p["label"]) == (source["review"], source["stars"])


def test_the_test_file_is_read_only_when_asked_for(cli, tiny, runs):
    write_rows(Path("test.jsonl"), rows(10, seed=1))
    for name in ("validation", "absent"):
        write_rows(Path(f"{name}.jsonl"), rows(20, seed=2))
    given = (*tiny, "data.validation=validation.jsonl", "data.test=absent.jsonl")
    Path("absent.jsonl").unlink()
    assert cli("train", *given).code == 0
    assert cli("train", *given, "evaluation.test=true").code == 2
    assert cli("train", *given, "data.test=test.jsonl", "evaluation.test=true").code == 0
    assert [("test/accuracy" in run.data.metrics) for run in runs("run")].count(True) == 1


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_precision_can_change_from_run_to_run_in_one_process(cli, tiny, precision):
    assert cli("train", *tiny, f"training.precision={precision}").code == 0


def test_a_decoder_without_padding_token_is_trained(cli, tiny, tiny_model, working_folder):
    from transformers import GPT2Config, GPT2Model

    folder = working_folder / "decoder"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.eos_token, tokenizer.pad_token = "[SEP]", None
    tokenizer.save_pretrained(folder)
    size = len(tokenizer)
    config = GPT2Config(vocab_size=size, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    GPT2Model(config).save_pretrained(folder)
    ended = cli("train", *tiny, f"model.checkpoint={folder}")
    assert ended.code == 0, ended.err


def test_patience_ends_a_run_that_gets_no_better(cli, tiny, runs):
    frozen = ("optimizer.learning_rate=1e-9", "training.epochs=10")
    cli("train", *tiny, *frozen, "training.early_stopping_patience=2")
    assert len(history(runs("run")[0], "val/f1_macro")) == 3


def test_a_broken_loss_names_the_step_and_the_rows(cli, tiny, runs, monkeypatch):
    load = Classification.load_model

    def broken(self):
        model = load(self)
        model.classifier.weight.data.fill_(float("nan"))
        return model

    monkeypatch.setattr(Classification, "load_model", broken)
    ended = cli("train", *tiny)
    assert ended.code == 2
    assert "step 1: the training loss is nan on the rows reviews.jsonl:" in ended.err
    assert "No weight has been updated yet, so the model is at fault" in ended.err
    assert "learning_rate" not in ended.err
    (run,) = runs("run")
    assert run.info.status == "FAILED"
    assert run.data.tags["tunewright.reason"].startswith("diverged: step 1")
