"""Question answering: answers are learned, kept as texts and predicted."""

import csv
import json
import random
from pathlib import Path

import pytest

from tests.support.answers import LETTERS, NAMES
from tests.support.refusals import refused
from tests.support.rows import rows, write_rows
from tests.support.stores import artifact, splits_of


def told(count: int, seed: int = 0, none: float = 0.0) -> list[dict]:
    """Return contexts in which the answer is the one name, and some without any."""
    chance = random.Random(seed)
    made = []
    for i in range(count):
        words = chance.choices(LETTERS, k=chance.randint(5, 9))
        name = chance.choice(NAMES)
        has_answer = chance.random() >= none
        if has_answer:
            words.insert(chance.randrange(len(words)), name)
        context = " ".join(["the", LETTERS[i % 20], *words])
        answers = {"text": [name], "answer_start": [context.index(name)]} if has_answer else []
        made.append({"context": context, "question": "who is", "answers": answers})
    return made


def overrides(model: Path, train: str, *more: str) -> list[str]:
    return [
        "task=question_answering",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={train}",
        "training.max_length=16",
        "task.stride=2",
        "training.batch_size=8",
        "training.epochs=4",
        "training.eval_every=1.0",
        "training.threads=1",
        "training.checkpoint_every=null",
        "optimizer.learning_rate=5e-3",
        *more,
    ]


def test_answers_are_learned_and_kept_as_texts(cli, reader, runs):
    write_rows(Path("train.jsonl"), told(300, none=0.2))
    with Path("test.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["context", "question", "answers"])
        writer.writeheader()
        made = told(40, seed=1, none=0.2)
        writer.writerows({**row, "answers": json.dumps(row["answers"] or [])} for row in made)
    more = ("data.test=test.csv", "evaluation.test=true")
    ended = cli("train", *overrides(reader, "train.jsonl", *more))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    metrics = run.data.metrics
    assert metrics["test/f1"] > metrics["test/random_span/f1"] + 0.5
    assert metrics["test/no_answer_accuracy"] > 0.9
    train = splits_of(run)["train"]
    assert train["examples"] > train["rows"]
    table = json.loads(artifact(run, "predictions.json").read_text())
    found = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["answers"] for row in found] == [
        row["answers"]["text"] if row["answers"] else [] for row in made
    ]
    assert all(row["prediction"] in ("", row["n_best"][0]["text"]) for row in found)
    right = sum([row["prediction"]] == (row["answers"] or [""]) for row in found)
    assert right / len(found) == pytest.approx(metrics["test/exact_match"])


def test_predicted_answers_equal_logged_ones_despite_extra_columns(cli, reader, runs):
    write_rows(Path("train.jsonl"), told(120))
    made = told(24, seed=2)
    write_rows(Path("test.jsonl"), made)
    more = ("data.test=test.jsonl", "evaluation.test=true", "task.stride=5")
    assert cli("train", *overrides(reader, "train.jsonl", *more)).code == 0
    (run,) = runs("run")
    made.insert(3, {**made[0], "question": "who is " * 30})  # longer than all that is read
    write_rows(Path("ask.jsonl"), [{k: row[k] for k in ("context", "question")} for row in made])
    asked_for = ("--input", "ask.jsonl", "--output", "out.jsonl", "--batch-size", "3")
    ended = cli("predict", run.info.run_id, *asked_for)
    assert ended.code == 0, ended.err
    found = list(map(json.loads, Path("out.jsonl").read_text().splitlines()))
    table = json.loads(artifact(run, "predictions.json").read_text())
    logged = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    for got, row in zip([*found[:3], *found[4:]], logged, strict=True):
        assert got["prediction"] == row["prediction"]
        assert got["n_best"][0]["text"] == row["prediction"]
        assert got["score"] == pytest.approx(row["score"], abs=1e-3)


def test_squads_own_file_trains(cli, reader, runs):
    paragraphs = []
    for i, row in enumerate(told(60)):
        (text,), (start,) = row["answers"].values()
        answers = [{"text": text, "answer_start": start}]
        qas = [{"id": str(i), "question": row["question"], "answers": answers}]
        paragraphs.append({"context": row["context"], "qas": qas})
    Path("squad.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    ended = cli("train", *overrides(reader, "squad.json", "training.epochs=1.0"))
    assert ended.code == 0, ended.err
    assert splits_of(runs("run")[0])["train"]["rows"] == pytest.approx(48, abs=2)


def test_a_question_that_leaves_no_room_is_refused(cli, reader):
    made = told(30)
    made[4]["question"] = "who " * 9
    write_rows(Path("train.jsonl"), made)
    ended = cli("train", *overrides(reader, "train.jsonl"))
    refused(
        ended, "row train.jsonl:5: its question has 9 tokens and leaves 4 of training.max_length"
    )


def test_rows_without_any_answer_and_models_that_cannot_point_are_refused(cli, reader):
    made = [{**row, "answers": []} for row in told(30)]
    write_rows(Path("train.jsonl"), made)
    refused(cli("train", *overrides(reader, "train.jsonl")), "no row has an answer")
    write_rows(Path("train.jsonl"), rows(30))
    ended = cli("train", *overrides(reader, "train.jsonl"))
    refused(ended, "train.jsonl:1", "there is no column 'context' (data.context)")
