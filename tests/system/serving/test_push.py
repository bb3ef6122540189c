"""A kept model, pushed by the hub's own client to a double of the hub."""

import json
import os
import subprocess
import sys

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoModelForSequenceClassification

from tests.support.hub import TOKEN, local_hub
from tests.support.rows import rows, write_rows
from tests.support.served import model_of
from tests.support.stores import Made, artifact, make_store, tiny_config

ONLINE = {"HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Made:
    """A store with a run that was tested."""
    folder = tmp_path_factory.mktemp("pushed")
    tiny = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(60)))
    return make_store(folder, [*tiny, "evaluation.test=true"])


@pytest.fixture(scope="module")
def adapted(tmp_path_factory) -> Made:
    """A store with a run of a text-to-text model with an adapter, on a folder like one of a hub."""
    folder = tmp_path_factory.mktemp("adapted")
    (folder / "reviews").mkdir()
    labels = {"neg": "red", "pos": "green"}  # words of its vocabulary
    named = [{**row, "stars": labels[row["stars"]]} for row in rows(40)]
    write_rows(folder / "reviews" / "train.jsonl", named)
    model = model_of("summarization", folder / "tiny-t5")
    return make_store(
        folder,
        [
            *("model=hub", f"model.checkpoint={model}", "adapter=lora", "task.approach=generative"),
            *("data=hub", f"data.name={folder / 'reviews'}", "data.validation=null"),
            *("data.text=review", "data.label=stars", "training.max_steps=2"),
            *("training.max_length=32", "evaluation.objective=val/accuracy@last"),
        ],
    )


def push(made: Made, *words: str, **environment: str) -> subprocess.CompletedProcess:
    (run,) = made.runs("run")
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "push", run.info.run_id, *words, made.where],
        env={**os.environ, **ONLINE, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_and_its_card_become_a_private_repository(made, tmp_path):
    (run,) = made.runs("run")
    with local_hub() as hub:
        done = push(made, "hub:acme/stars", HF_ENDPOINT=hub.address)
        assert done.returncode == 0, done.stderr
        assert f"pushed  {hub.address}/acme/stars" in done.stdout
        again = push(made, "hub:acme/stars", HF_ENDPOINT=hub.address)
        assert again.returncode == 2
        assert "exists already" in again.stderr
        assert push(made, "hub:acme/stars", "--force", HF_ENDPOINT=hub.address).returncode == 0
    pushed = hub.repositories["acme/stars"]
    assert pushed["asked"]["visibility"] == "private"
    files = pushed["files"]
    weights = artifact(run, "model") / "model.safetensors"
    assert files["model.safetensors"] == weights.read_bytes()
    assert not {"MLmodel", "input_example.json"} & files.keys()  # the latter is a row of the data
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert set(loaded.config.id2label.values()) == {"neg", "pos"}


def test_a_card_says_what_the_record_says(made):
    (run,) = made.runs("run")
    card = ModelCard(push(made, "hub:acme/stars", "--card").stdout)
    said = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert said == {
        (split, metric.partition("/")[2]): value
        for metric, value in run.data.metrics.items()
        for begin, split in (("val/", "validation"), ("test/", "test"))
        if metric.startswith(begin) and metric.count("/") == 1
    }
    assert card.data.pipeline_tag == "text-classification"
    splits = json.loads(artifact(run, "inputs.json").read_text())["data"]["splits"]
    assert ", ".join(f"{of['rows']} {name}" for name, of in splits.items()) in card.text
    assert (
        f"| optimizer.learning_rate | {run.data.params['optimizer.learning_rate']} |" in card.text
    )
    assert str(made.folder) not in str(card)
    assert "AutoModelForSequenceClassification.from_pretrained" in card.text


def test_no_path_of_this_machine_is_pushed(adapted):
    with local_hub() as hub:
        done = push(adapted, "hub:acme/stars", HF_ENDPOINT=hub.address)
        assert done.returncode == 0, done.stderr
    files = hub.repositories["acme/stars"]["files"]
    assert {"generation_config.json", "adapter/adapter_config.json"} <= files.keys()
    assert [name for name, held in files.items() if str(adapted.folder).encode() in held] == []
    assert json.loads(files["adapter/adapter_config.json"])["base_model_name_or_path"] == "tiny-t5"


def test_a_card_of_a_text_to_text_model_names_its_task_and_data(adapted):
    card = ModelCard(push(adapted, "hub:acme/stars", "--card").stdout)
    assert card.data.pipeline_tag == "text-classification"
    assert (card.data.metrics, card.data.datasets, card.data.language) == (["accuracy"], None, None)
    assert {result.dataset_type for result in card.data.eval_results} == {"reviews"}
    assert "AutoModelForSeq2SeqLM.from_pretrained" in card.text
    assert "| training.max_steps | 2 |" in card.text
    assert "training.epochs" not in card.text


def test_a_card_that_the_hub_refuses_leaves_no_repository():
    result = EvalResult("text-classification", "a.csv, b.csv", "a.csv, b.csv", "f1", 0.5)
    front = ModelCardData(model_name="stars", eval_results=[result])
    card = f"---\n{front.to_yaml()}\n---\n"
    code = (
        "from pipeline.serving.hub import push\n"
        f"push([], {card!r}, 'acme/stars', public=False, force=False)"
    )
    with local_hub() as hub:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **ONLINE, "HF_ENDPOINT": hub.address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert hub.repositories == {}
    assert "ModelError: hub:acme/stars: the hub cannot take it" in done.stderr
    assert "'a.csv, b.csv' is no data set" in done.stderr


@pytest.mark.parametrize(
    ("target", "environment", "said"),
    [
        ("acme/stars", {}, "acme/stars: expected hub:OWNER/NAME"),
        ("hub:acme/stars", {"HF_TOKEN": "hf_" + "wrong" * 7}, "username or password. Log in with"),
        (
            "hub:acme/stars",
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "Check the network, and HF_ENDPOINT",
        ),
        ("hub:acme/stars", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE=1 keeps the hub out of reach"),
    ],
)
def test_what_cannot_be_pushed_is_refused_in_a_paragraph(made, target, environment, said):
    with local_hub() as hub:
        done = push(made, target, **{"HF_ENDPOINT": hub.address, **environment})
        assert hub.repositories == {}
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
