"""Wording is searched beside learning rates, with the model as it is as a point of the space."""

import json
from pathlib import Path

import pytest

from tests.support.chats import chats, write_chats
from tests.support.refusals import refused
from tests.support.rows import rows, write_rows
from tests.support.stores import artifact, predictions_of

SPACE = """\
about: Two wordings, zero-shot and two learning rates.
sampler: grid
space:
  prompt: [label, choose]
  training.epochs: [0, 1]
when:
  training.epochs=1:
    optimizer.learning_rate: [1e-3, 1e-2]
"""


def labelled_by(model: Path, *more: str) -> list[str]:
    write_rows(Path("train.jsonl"), rows(60))
    return [
        "task.approach=generative",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        "data.train=train.jsonl",
        "data.text=review",
        "data.label=stars",
        "training.max_length=48",
        "training.threads=1",
        *more,
    ]


def test_prompts_are_searched_with_zero_shot_and_learning_rates(cli, writers, runs):
    Path("sweeps").mkdir()
    Path("sweeps/wording.yaml").write_text(SPACE)
    command = labelled_by(writers["gpt2"], "hydra.sweeper.n_jobs=1")
    ended = cli("sweep", "wording", *command)
    assert ended.code == 0, ended.err
    assert "6 of 6 trials done, 0 failed." in ended.out
    trials, (study,) = runs("trial"), runs("study")
    assert "task.prompt" not in study.data.params  # it is not the same in all trials
    assert study.data.params["task.multi_label"] == "False"
    asked = {run.data.params["task.prompt"] for run in trials}
    assert len(asked) == 2
    untrained = [run for run in trials if run.data.params["training.epochs"] in ("0", "0.0")]
    assert len(untrained) == 2
    for run in untrained:
        assert run.data.metrics["best/step"] == 0
        assert run.data.metrics["cost/train_seconds"] < 1
        again = cli("rerun", run.info.run_id)
        assert "identical" in again.out, again.out + again.err
    assert len({run.data.metrics["val/loss"] for run in trials}) == 6


def test_zero_shot_needs_a_model_that_answers(cli, tiny, runs, tiny_model):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    refused(
        cli("train", *tiny, "training.epochs=0"),
        "training.epochs=0: ",
        "cannot do task=classification without training",
    )
    names = sorted({row["stars"] for row in rows(60)})
    trained = AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=len(names), id2label=dict(enumerate(names))
    )
    trained.save_pretrained("trained")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained("trained")
    ended = cli("train", *tiny, "training.epochs=0", "model.checkpoint=trained")
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    assert run.data.metrics["best/step"] == 0
    assert artifact(run, "model").is_dir()


def test_a_system_message_begins_conversations_without_one(cli, chatter, runs):
    write_chats(Path("chats.jsonl"), chats(40))
    command = ["task=chat", "model=hub", f"model.checkpoint={chatter}", "data=files"]
    command += ["data.train=chats.jsonl", "training.max_length=64", "training.max_steps=2"]
    command += ["task.generation.max_new_tokens=4"]
    for more in ("prompt=brief", "prompt=none"):
        ended = cli("train", *command, more)
        assert ended.code == 0, ended.err
    tables = [predictions_of(run) for run in runs("run")]
    begun = {of[0]["messages"][0]["role"]: of for of in tables}
    for row in begun["system"]:
        first, second, *_ = row["messages"]
        assert first == {"role": "system", "content": "Answer in one short sentence."}
        assert second["role"] == "user"
    # A wording is no other data: the same rows judge both.
    assert [row["id"] for row in begun["system"]] == [row["id"] for row in begun["user"]]
    run = next(run for run in runs("run") if run.data.params["task.system"] != "None")
    kept = json.loads((artifact(run, "model") / "tunewright.json").read_text())
    assert kept["task"]["system"] == "Answer in one short sentence."


@pytest.mark.parametrize("task", ["question_answering", "regression"])
def test_a_prompt_of_another_task_is_refused(cli, task):
    refused(cli("train", f"task={task}", "prompt=label"), "task.approach")
