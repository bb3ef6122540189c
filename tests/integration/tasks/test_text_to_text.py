"""Summarization and translation: learned by encoder-decoders and decoders, run again, refused."""

import json
import math
import random
import re

import pytest

from pipeline.config.tracking import TrackingConfig
from pipeline.tracking.metrics import history
from pipeline.tracking.store import open_store
from tests.support.rows import write_rows
from tests.support.stores import artifact
from tests.support.writers import WORDS, pairs


def config_of(model, task, file, *more):
    return [
        f"task={task}",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={file}",
        "training.max_length=40",
        "task.max_target_length=16",
        "task.generation.max_new_tokens=8",
        "training.epochs=1",
        "training.eval_every=4",
        "training.threads=1",
        *more,
    ]


@pytest.fixture
def translations(working_folder):
    records = [{"translation": {"en": a, "de": b}} for a, b in pairs(250)]
    return write_rows(working_folder / "pairs.jsonl", records)


NESTED = ("data.input=translation.en", "data.target=translation.de", "task.language=de")


def report(run):
    return json.loads(artifact(run, "predictions.json").read_text())


@pytest.mark.parametrize(("kind", "epochs"), [("t5", 8), ("llama", 3)])
def test_a_translation_is_learned_and_beats_its_source(
    cli, runs, writers, translations, kind, epochs
):
    ended = cli(
        "train",
        *config_of(writers[kind], "translation", translations, *NESTED),
        "optimizer.learning_rate=5e-3",
        f"training.epochs={epochs}",
        "training.eval_every=100.0",
    )
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    metrics = run.data.metrics
    assert metrics["val/chrf"] > 40 > metrics["val/copy_source/chrf"]
    assert metrics["val/token_accuracy"] > 0.6
    assert metrics["val/perplexity"] == pytest.approx(math.exp(metrics["val/loss"]))
    table = report(run)
    assert table["columns"] == ["id", "source", "target", "prediction"]
    assert any(row[2] == row[3] for row in table["data"])


def test_a_summary_is_learned_and_beats_the_first_three_sentences(
    cli, runs, writers, working_folder
):
    chance = random.Random(0)
    records = []
    for _ in range(100):
        others = [" ".join(chance.sample(list(WORDS), 2)) + "." for _ in range(3)]
        key = f"{chance.choice(list(WORDS.values()))} {chance.choice(list(WORDS.values()))}."
        records.append({"source": " ".join([*others, key]), "target": key})
    file = write_rows(working_folder / "summaries.jsonl", records)
    ended = cli(
        "train",
        *config_of(writers["llama"], "summarization", file),
        "optimizer.learning_rate=5e-3",
        "training.epochs=8",
        "training.eval_every=100.0",
    )
    assert ended.code == 0, ended.err
    metrics = runs("run")[0].data.metrics
    assert metrics["val/rougeL"] > metrics["val/lead3/rougeL"] + 0.2


def test_writing_at_evaluations_changes_no_training_and_a_rerun_is_identical(
    cli, runs, writers, translations
):
    # With dropout, which draws at each step what evaluations must not have drawn.
    config = config_of(writers["gpt2"], "translation", translations, *NESTED)
    assert cli("train", *config, "training.eval_every=100.0").code == 0
    sampled = ("task.generation.do_sample=true", "task.generation.temperature=1.5")
    assert cli("train", *config, *sampled).code == 0
    store = open_store(TrackingConfig("mlruns", None, "tunewright"))
    histories = [history(store, run.info.run_id, "val/loss") for run in runs("run")]
    assert len({points[max(points)] for points in histories}) == 1
    (run,) = [r for r in runs("run") if r.data.params["task.generation.do_sample"] == "True"]
    again = cli("rerun", run.info.run_id, "--verify", "--allow", str(writers["gpt2"]))
    assert again.code == 0, again.err
    assert "identical" in again.out


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"source": "red", "target": " "}, r"pairs\.jsonl, row pairs\.jsonl:2: no text: found ' '"),
        ({"source": "red"}, r"row pairs\.jsonl:2: there is no column 'target'"),
        ({"source": None, "target": "x"}, r"no text: found None in column 'source'"),
    ],
)
def test_a_row_without_both_texts_is_refused(cli, writers, working_folder, record, message):
    file = write_rows(working_folder / "pairs.jsonl", [{"source": "a", "target": "b"}, record])
    ended = cli("train", *config_of(writers["t5"], "translation", file))
    assert ended.code == 2
    assert re.search(message, ended.err), ended.err


def test_the_nearest_nested_column_is_named(cli, writers, translations):
    ended = cli(
        "train",
        *config_of(writers["t5"], "translation", translations),
        "data.input=translation.en",
        "data.target=translaton.de",
    )
    assert ended.code == 2
    assert "'translaton.de' (data.target)" in ended.err
    assert "Did you mean translation.de?" in ended.err


def test_an_objective_of_another_language_is_refused_by_its_name(cli, writers, translations):
    ended = cli(
        "train", *config_of(writers["t5"], "summarization", translations), "task.language=zh"
    )
    assert ended.code == 2
    assert "evaluation.objective=val/rougeL" in ended.err
    assert "Did you mean val/rougeL_zh?" in ended.err


def test_a_model_that_cannot_write_is_refused_and_leaves_no_run(
    cli, tiny_model, translations, working_folder
):
    for task in ("summarization", "translation"):
        ended = cli(
            "train",
            *config_of(tiny_model, task, translations, *NESTED[:2], "training.max_length=32"),
        )
        assert ended.code == 2
        assert "is a bert, which cannot generate" in ended.err
        assert "t5-small" in ended.err
        assert "gpt2" in ended.err
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{working_folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tunewright")
    assert experiment is None or not client.search_runs([experiment.experiment_id])


def test_tokenizers_are_not_compared_by_a_metric_of_their_tokens(cli, writers, translations):
    given = config_of(writers["t5"], "translation", translations, *NESTED)
    models = f"model.checkpoint={writers['t5']},{writers['bart']}"
    search = ("train", "-m", *(o for o in given if not o.startswith("model.checkpoint")), models)
    refused = cli(*search, "evaluation.objective=val/perplexity")
    assert refused.code == 2
    assert "evaluation.objective=val/perplexity: it is a mean over tokens" in refused.err
    assert "such as val/bits_per_byte" in refused.err
    assert cli(*search, "evaluation.objective=val/bits_per_byte", "--dry-run").code == 0
