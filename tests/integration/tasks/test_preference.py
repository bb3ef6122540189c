"""Preference tuning: preferred replies become more likely, and the kept model converses."""

import json
import random
from pathlib import Path

import pytest

from tests.support.chats import REPLIES
from tests.support.refusals import refused
from tests.support.rows import write_rows
from tests.support.stores import predictions_of


def compared(count: int) -> list[dict]:
    """Return questions with their own reply preferred to that of another one."""
    chance = random.Random(0)
    made = []
    for i in range(count):
        asked, other = chance.sample(list(REPLIES), 2)
        replies = {"chosen": REPLIES[asked], "rejected": REPLIES[other]}
        made.append({"prompt": f"{i}. {asked}", **replies})
    return made


def overrides(model: Path, *more: str) -> list[str]:
    return [
        "task=preference",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        "data.train=train.jsonl",
        "training.max_length=48",
        "training.batch_size=8",
        "training.epochs=4",
        "training.eval_every=2.0",
        "training.threads=1",
        "training.checkpoint_every=null",
        "optimizer.learning_rate=3e-3",
        *more,
    ]


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_preferred_replies_win_and_the_model_drifts(cli, chatter, runs, adapter):
    write_rows(Path("train.jsonl"), compared(80))
    written = ("task.generate=true", "task.generation.max_new_tokens=8")
    ended = cli("train", *overrides(chatter, f"adapter={adapter}", *written))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    metrics = run.data.metrics
    assert metrics["val/accuracy"] > metrics["val/reference/accuracy"] == 0.5
    assert metrics["val/margin"] > 0
    assert metrics["val/kl"] > 0
    assert 0 < metrics["val/reply_tokens"] <= 8
    found = predictions_of(run)
    assert {"messages", "rejected", "prediction", "margin"} <= found[0].keys()
    right = sum((row["margin"] > 0) + (row["margin"] == 0) / 2 for row in found)
    assert right / len(found) == pytest.approx(metrics["val/accuracy"])
    mean = sum(row["margin"] for row in found) / len(found)
    assert mean == pytest.approx(metrics["val/margin"], abs=1e-4)
    write_rows(Path("asked.jsonl"), [{"messages": [{"role": "user", "content": "Who are you?"}]}])
    asked = cli("predict", run.info.run_id, "--input", "asked.jsonl", "--output", "out.jsonl")
    assert asked.code == 0, asked.err
    assert set(json.loads(Path("out.jsonl").read_text())) == {"id", "prediction"}


def test_a_larger_beta_stays_closer_to_the_reference(cli, chatter, runs):
    write_rows(Path("train.jsonl"), compared(40))
    long = ("training.epochs=16", "optimizer.learning_rate=1e-2", "evaluation.objective=val/margin")
    for beta in ("0.05", "5"):
        ended = cli("train", *overrides(chatter, f"task.beta={beta}", *long))
        assert ended.code == 0, ended.err
    drift = {run.data.params["task.beta"]: run.data.metrics["val/kl"] for run in runs("run")}
    assert drift["5"] < drift["0.05"] / 2


def test_conversations_and_preferences_are_told_apart(cli, chatter):
    write_rows(Path("train.jsonl"), compared(8))
    wrong = [*overrides(chatter), "task=chat"]
    refused(cli("train", *wrong[1:]), "Preference pairs are read by task=preference")
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write_rows(Path("train.jsonl"), [{"messages": chat}] * 4)
    refused(cli("train", *overrides(chatter)), "expected those of a layout of preferences")
    refused(
        cli("train", *overrides(chatter, "data.layout=sharegpt")),
        "data.layout=sharegpt: there is no such layout of preferences.",
        "preference_sharegpt",
    )
