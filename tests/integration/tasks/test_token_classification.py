"""Token classification: entities of CoNLL files and of spans are learned, kept and predicted."""

import json
import random
from pathlib import Path

import pytest

from pipeline.evaluation.entities import entity_scores
from tests.support.answers import LETTERS, NAMES
from tests.support.refusals import refused
from tests.support.rows import write_rows
from tests.support.stores import predictions_of, scores_of


def told(count: int, seed: int = 0) -> list[list[tuple[str, str]]]:
    """Return sentences: names are persons, but a thing after "the", which a word alone hides."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        words = [(word, "O") for word in chance.choices(LETTERS, k=chance.randint(3, 8))]
        for kind in chance.choices(["PER", "THING", None], k=2):
            first, *rest = chance.sample(NAMES, 2)
            entity = [(first, f"B-{kind}"), *[(one, f"I-{kind}") for one in rest]]
            entity = [("the", "O"), *entity] if kind == "THING" else entity
            at = chance.randrange(len(words) + 1)
            inside = at < len(words) and words[at][1].startswith("I-")
            words[at:at] = entity if kind and not inside else []
        made.append(words)
    return made


def overrides(model: Path, train: str, *more: str) -> list[str]:
    return [
        "task=token_classification",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={train}",
        "training.max_length=12",
        "task.stride=4",
        "training.batch_size=8",
        "training.epochs=3",
        "training.eval_every=1.0",
        "training.threads=1",
        "training.checkpoint_every=null",
        "optimizer.learning_rate=5e-3",
        *more,
    ]


def test_entities_of_a_conll_file_are_learned_and_predicted(cli, reader, runs):
    lines = ["\n".join(f"{word} x {tag}" for word, tag in of) for of in told(300)]
    Path("train.conll").write_text("\n\n".join(lines) + "\n")
    ended = cli("train", *overrides(reader, "train.conll"))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    metrics = run.data.metrics
    assert metrics["val/f1_micro"] > metrics["val/most_frequent_tag/f1_micro"] + 0.2
    found = predictions_of(run)
    true, predicted = (
        [[(one["start"], one["end"], one["label"]) for one in row[side]] for row in found]
        for side in ("entities", "prediction")
    )
    scores = entity_scores(predicted, true, ["PER", "THING"])
    assert scores["f1_micro"] == pytest.approx(metrics["val/f1_micro"])
    logged = scores_of(run)
    assert logged["THING", "f1"] == pytest.approx(scores["f1/THING"])
    assert logged["THING", "entities"] == sum(label == "THING" for of in true for *_, label in of)
    for row in found:
        for one in (*row["entities"], *row["prediction"]):
            assert row["text"][one["start"] : one["end"]] == one["text"]
    # Asked for texts and for words, the model answers as in training.
    texts = [{"text": row["text"]} for row in found]
    write_rows(Path("texts.jsonl"), [*texts, {"text": "-", "tokens": found[0]["text"].split()}])
    run_id, where = run.info.run_id, ["--input", "texts.jsonl", "--output", "out.jsonl"]
    asked = cli("predict", run_id, *where)
    assert asked.code == 0, asked.err
    answers = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    kept = [[(a["text"], a["label"]) for a in of["prediction"]] for of in answers]
    expected = [[(a["text"], a["label"]) for a in row["prediction"]] for row in found]
    assert kept == [*expected, expected[0]]


def test_entities_of_spans_are_those_of_tags(cli, reader, runs):
    sentences = told(120, seed=1)
    words = [{"tokens": [w for w, _ in of], "tags": [tag for _, tag in of]} for of in sentences]
    write_rows(Path("words.jsonl"), words)
    spans = []
    for of in sentences:
        entities, at = [], 0
        for word, tag in of:
            if tag[0] == "B":
                entities.append({"start": at, "end": at + len(word), "label": tag[2:]})
            elif tag[0] == "I":
                entities[-1]["end"] = at + len(word)
            at += len(word) + 1
        spans.append({"text": " ".join(word for word, _ in of), "entities": entities})
    write_rows(Path("spans.jsonl"), spans)
    for more in (["words.jsonl"], ["spans.jsonl", "data.entities=entities"]):
        ended = cli("train", *overrides(reader, *more, "training.epochs=1"))
        assert ended.code == 0, ended.err
    one, other = runs("run")
    assert one.data.metrics["val/loss"] == other.data.metrics["val/loss"]
    assert one.data.metrics["val/f1_micro"] == other.data.metrics["val/f1_micro"]


def test_what_cannot_be_read_is_refused_by_its_place(cli, reader):
    write_rows(Path("train.jsonl"), [{"tokens": ["a", "b"], "tags": ["O", "I-X"]}])
    refused(
        cli("train", *overrides(reader, "train.jsonl")),
        "train.jsonl, row train.jsonl:1: word 2: found 'I-X' after 'O'; expected B-TYPE",
        "task.scheme=iob1",
    )
    write_rows(Path("train.jsonl"), [{"text": "a b", "label": "X"}] * 4)
    refused(
        cli("train", *overrides(reader, "train.jsonl")),
        "there is no column 'tokens' (data.tokens); found 'text', 'label'",
        "If rows are texts with spans, data.entities names their column.",
    )
