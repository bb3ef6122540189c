"""Chats: replies are learned and written, and invalid conversations are refused."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from tests.support.chats import TURNS, chats, said, write_chats
from tests.support.rows import write_rows
from tests.support.stores import artifact, scores_of
from tests.support.tiny_models import END, TURN_END


def config_of(model, file, *more):
    return [
        "task=chat",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={file}",
        "training.max_length=64",
        "task.generation.max_new_tokens=8",
        "training.epochs=1",
        "training.eval_every=100.0",
        "training.threads=1",
        *more,
    ]


def test_replies_are_learned_and_beat_the_most_frequent_one(cli, runs, chatter):
    file = write_chats(Path("chat.jsonl"), chats(150))
    learning = ("optimizer.learning_rate=1e-2", "schedule.warmup=0.1", "training.epochs=12")
    ended = cli("train", *config_of(chatter, file, *learning))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    metrics, table = run.data.metrics, scores_of(run)
    assert metrics["val/exact_match"] > 0.8 > table["exact_match", "frequent_reply score"]
    assert "exact_match" in ended.out
    table = json.loads(artifact(run, "predictions.json").read_text())
    assert table["columns"] == ["id", "messages", "prediction"]
    last = [row[1][-1] for row in table["data"]]
    assert all(set(message) == {"role", "content"} for message in last)
    right = [row[2] == message["content"] for row, message in zip(table["data"], last, strict=True)]
    assert sum(right) / len(right) == pytest.approx(metrics["val/exact_match"])


def test_replies_need_not_be_written(cli, runs, chatter):
    file = write_chats(Path("chat.jsonl"), chats(8))
    ended = cli("train", *config_of(chatter, file, "task.generate=false"))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    assert not any("exact_match" in name or "rouge" in name for name in run.data.metrics)
    metrics = run.data.metrics
    assert metrics["val/perplexity"] == pytest.approx(math.exp(metrics["val/loss"]))
    assert metrics["val/bits_per_byte"] > 0
    assert json.loads(artifact(run, "predictions.json").read_text())["columns"] == [
        "id",
        "messages",
    ]


def test_kept_model_ends_where_training_taught(cli, runs, chatter):
    file = write_chats(Path("chat.jsonl"), chats(8))
    ended = cli("train", *config_of(chatter, file, "task.generate=false"))
    assert ended.code == 0, ended.err
    folder = artifact(runs("run")[0], "model")
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    assert {TURN_END, END} == {token["content"] for token in tokens if token["id"] in ends}


def test_a_model_is_kept_where_nothing_counts_of_the_first_rows_it_is_judged_by(cli, runs, chatter):
    file = write_chats(Path("chat.jsonl"), chats(8))
    idle = [(asked, answer._replace(trained=False)) for asked, answer in (TURNS[:2],) * 9]
    long = [said(" ".join(["What is red?"] * 40), "A colour.")] * 9
    judged = write_chats(Path("judged.jsonl"), [*idle, *long, *chats(2, seed=1)])
    ended = cli("train", *config_of(chatter, file, f"data.validation={judged}"))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    assert artifact(run, "model").is_dir()


def test_an_objective_on_replies_needs_replies(cli, chatter):
    file = write_chats(Path("chat.jsonl"), chats(8))
    asked = ("task.generate=false", "evaluation.objective=val/exact_match")
    ended = cli("train", *config_of(chatter, file, *asked))
    assert ended.code == 2
    assert "evaluation.objective=val/exact_match: the task chat does not produce it" in ended.err


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "boss", "content": "Hi"}], r"messages\[0\]\.role is 'boss'"),
        ([{"role": "user", "content": "Hi"}], r"no message from the assistant"),
        (
            [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " "}],
            r"messages\[1\] is empty",
        ),
    ],
)
def test_invalid_conversation_is_refused_with_file_and_line(cli, chatter, messages, message):
    good = {"messages": [m._asdict() for m in TURNS[:2]]}
    for one in good["messages"]:
        del one["trained"]
    file = write_rows(Path("chat.jsonl"), [good, {"messages": messages}])
    ended = cli("train", *config_of(chatter, file))
    assert ended.code == 2
    assert re.search(rf"row chat\.jsonl:2: .*{message}", ended.err), ended.err


def test_a_layout_that_is_none_is_refused_by_its_key(cli, chatter):
    file = write_chats(Path("chat.jsonl"), chats(2))
    ended = cli("train", *config_of(chatter, file, "data.layout=mesages"))
    assert ended.code == 2
    assert "data.layout=mesages: there is no such layout. Did you mean messages?" in ended.err


def test_a_tokenizer_without_chat_template_is_one_error_with_a_remedy(cli, chatter):
    shutil.copytree(chatter, "plain")
    Path("plain/chat_template.jinja").unlink(missing_ok=True)
    settings = Path("plain/tokenizer_config.json")
    known = json.loads(settings.read_text())
    known.pop("chat_template", None)
    settings.write_text(json.dumps(known))
    file = write_chats(Path("chat.jsonl"), chats(8))
    ended = cli("check", *config_of("plain", file))
    errors = [line for line in ended.out.splitlines() if line.startswith("error")]
    assert len(errors) == 1, errors
    assert "has no chat template" in errors[0]
    assert "task.chat_template=FILE" in errors[0]
