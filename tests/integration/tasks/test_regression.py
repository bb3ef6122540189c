"""Regression: numbers are learned, shown in their own unit, and texts compared by embeddings."""

import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.numbers import number_scores
from tests.support.answers import LETTERS
from tests.support.refusals import refused, refused_beside
from tests.support.rows import write_rows
from tests.support.stores import artifact, predictions_of


def counted(count: int) -> list[dict]:
    """Return texts, ten times how many words are before k, and half of how many are not."""
    chance = random.Random(0)
    made = []
    for _ in range(count):
        words = chance.choices(LETTERS, k=8)
        early = sum(word < "k" for word in words)
        made.append({"text": " ".join(words), "early": 10 * early + 100, "late": (8 - early) / 2})
    return made


def overrides(model: Path, *more: str) -> list[str]:
    return [
        "task=regression",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        "data.train=train.jsonl",
        "training.max_length=16",
        "training.batch_size=8",
        "training.epochs=3",
        "training.eval_every=1.0",
        "training.threads=1",
        "training.checkpoint_every=null",
        "optimizer.learning_rate=5e-3",
        *more,
    ]


@pytest.mark.draws
def test_numbers_are_learned_and_shown_in_their_own_unit(cli, reader, runs):
    write_rows(Path("train.jsonl"), counted(240))
    ended = cli("train", *overrides(reader, "data.label=early"))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    metrics, found = run.data.metrics, predictions_of(run)
    assert metrics["val/pearson"] > 0.7 > metrics["val/mean/pearson"]
    sides = (np.array([[row[side]] for row in found]) for side in ("prediction", "label"))
    scores = number_scores(*sides, ["early"])
    for name in ("rmse", "mae", "r2", "pearson", "spearman"):
        assert scores[name] == pytest.approx(metrics[f"val/{name}"], rel=1e-4)
    assert artifact(run, "predictions.png").read_bytes().startswith(b"\x89PNG")


def test_several_numbers_are_learned_together_by_either_loss(cli, reader, runs):
    write_rows(Path("train.jsonl"), counted(120))
    for loss in ("mse", "huber"):
        more = ("data.label=[early,late]", f"task.loss={loss}", "evaluation.objective=val/r2/late")
        ended = cli("train", *overrides(reader, *more))
        assert ended.code == 0, ended.err
    every = runs("run")
    assert len({run.data.metrics["val/r2/late"] for run in every}) == 2
    assert set(predictions_of(every[0])[0]["prediction"]) == {"early", "late"}


def test_texts_are_compared_by_embeddings_which_predict_gives(cli, reader, runs):
    texts = [row["text"] for row in counted(240)]
    pairs = [
        {"one": a, "other": b, "alike": len(set(a.split()) & set(b.split()))}
        for a, b in pairwise(texts)
    ]
    write_rows(Path("train.jsonl"), pairs)
    columns = ("data.text=one", "data.text_pair=other", "data.label=alike")
    ended = cli("train", *overrides(reader, *columns, "task.approach=embedding"))
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    assert run.data.metrics["val/pearson"] > 0.3
    write_rows(Path("texts.jsonl"), [{"one": text} for text in texts])
    asked = cli("predict", run.info.run_id, "--input", "texts.jsonl", "--output", "out.jsonl")
    assert asked.code == 0, asked.err
    lines = Path("out.jsonl").read_text().splitlines()
    embedding = {t: json.loads(line)["embedding"] for t, line in zip(texts, lines, strict=True)}
    least, most = (f(pair["alike"] for pair in pairs) for f in (min, max))
    for row in predictions_of(run):
        a, b = (np.array(embedding[row[name]]) for name in ("text", "text_pair"))
        cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert row["prediction"] == pytest.approx(least + (most - least) * cosine, abs=1e-3)
    write_rows(Path("mixed.jsonl"), [pairs[0], {"one": "a"}])
    where = ("--input", "mixed.jsonl", "--output", "mixed-out.jsonl")
    refused_beside(
        cli("predict", run.info.run_id, *where), "mixed.jsonl:2: it lacks the column 'other'"
    )


def test_what_is_no_number_is_refused_with_the_other_task(cli, reader):
    write_rows(Path("train.jsonl"), [{"text": "a", "label": "good"}] * 3)
    refused(
        cli("train", *overrides(reader)),
        "train.jsonl, row train.jsonl:1: found 'good' in column 'label'; expected a finite number",
        "task=classification",
    )
    write_rows(Path("train.jsonl"), counted(20))
    more = ("data.label=early", "evaluation.objective=val/r2/early")
    refused(
        cli("train", *overrides(reader, *more)),
        "val/r2/early: it has no parts here; expected val/r2.",
    )
