"""Classification: several labels, weights, long texts; labels as a model's next words."""

import random
from pathlib import Path

import pytest

from tests.support import word_models as models
from tests.support.classifiers import WORDS
from tests.support.refusals import refused
from tests.support.rows import BAD, FILLERS, GOOD, rows, write_rows
from tests.support.stores import scores_of, splits_of


def given(model: Path, *more: str, train: str = "train.jsonl") -> list[str]:
    """Return the overrides of a run that takes about a second."""
    return [
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={train}",
        "training.max_length=16",
        "training.batch_size=8",
        "training.eval_every=1.0",
        "training.checkpoint_every=null",
        "training.threads=1",
        "optimizer.learning_rate=5e-3",
        *more,
    ]


def reviews(count: int, seed: int = 0) -> list[dict[str, str]]:
    return [{"text": row["review"], "label": row["stars"]} for row in rows(count, seed)]


def moods(count: int, seed: int = 0) -> list[dict]:
    """Return texts with a word for each of their labels; some have none."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        names = sorted(name for name in ("glad", "sour") if chance.random() < 0.5)
        words = [GOOD[0]] * ("glad" in names) + [BAD[0]] * ("sour" in names)
        words += chance.choices(FILLERS, k=4)
        chance.shuffle(words)
        made.append({"text": " ".join(words), "label": names})
    return made


def test_several_labels_are_learned_from_lists_cells_and_columns(cli, encoder, runs):
    made = moods(240)
    write_rows(Path("train.jsonl"), made)
    lines = [f"{row['text']},{'; '.join(row['label'])}" for row in made]
    Path("train.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    several = ("task.multi_label=true", "training.epochs=4")
    first = given(encoder, *several, "evaluation.objective=val/f1_micro")
    assert cli("train", *first).code == 0
    cells = ("data.label_separator=';'", "evaluation.objective=val/hamming_loss")
    assert cli("train", *given(encoder, *several, *cells, train="train.csv")).code == 0
    names = ("glad", "sour")
    marks = [",".join([row["text"], *(f"{n in row['label']:d}" for n in names)]) for row in made]
    Path("marks.csv").write_text("\n".join([",".join(["text", *names]), *marks]) + "\n")
    columns = (f"data.label=[{','.join(names)}]", "evaluation.objective=val/f1_micro")
    assert cli("train", *given(encoder, *several, *columns, train="marks.csv")).code == 0
    found = [run.data.metrics for run in runs("run")]
    assert len(found) == 3
    for run, metrics in zip(runs("run"), found, strict=True):
        table = scores_of(run)
        assert table["micro average", "f1"] == metrics["val/f1_micro"]
        assert metrics["val/f1_micro"] > 0.95 > table["micro average", "majority f1"]
        assert metrics["val/hamming_loss"] < 0.05
    assert len({metrics["val/f1_micro"] for metrics in found}) == 1  # the same rows


@pytest.mark.parametrize(
    ("label", "more", "fragments"),
    [
        ("a, b", (), ("data.label_separator", "'a, b'")),
        (3, ("data.label_separator=';'",), ("found 3",)),
        (["a", None], (), ("no label", "None")),
        (["a", ["b"]], (), ("no label", "['b']")),
    ],
)
def test_a_cell_that_is_no_list_of_labels_is_refused(cli, encoder, label, more, fragments):
    write_rows(Path("train.jsonl"), [*moods(20), {"text": "good", "label": label}])
    ended = cli("train", *given(encoder, "task.multi_label=true", *more))
    refused(ended, "train.jsonl:21", *fragments)


def test_cells_of_several_labels_are_not_read_as_one(cli, encoder):
    write_rows(Path("train.jsonl"), reviews(40))
    ended = cli("train", *given(encoder, "data.label_separator=';'"))
    refused(ended, "data.label_separator=';'", "task.multi_label=true")


def test_balanced_weights_of_several_labels_are_refused(cli, encoder):
    write_rows(Path("train.jsonl"), moods(40))
    several = ("task.multi_label=true", "task.class_weights=balanced")
    refused(cli("train", *given(encoder, *several)), "task.class_weights=balanced", "multi_label")


def test_weights_that_are_not_one_a_label_are_refused(cli, encoder):
    write_rows(Path("train.jsonl"), reviews(40))
    ended = cli("train", *given(encoder, "task.class_weights=[1,2,3]"))
    refused(ended, "task.class_weights=[1.0, 2.0, 3.0]: 3 weights; expected 2", "neg, pos")


def test_balanced_weights_find_more_of_a_rare_label(cli, encoder, runs):
    chance = random.Random(1)
    made = []
    for i in range(400):  # what tells the rare label is as often said of the other one
        sign = GOOD[0] if i % 8 == 0 or chance.random() < 0.12 else BAD[0]
        words = [sign, *chance.choices(FILLERS, k=5)]
        made.append({"text": " ".join(words), "label": "rare" if i % 8 == 0 else "usual"})
    write_rows(Path("train.jsonl"), made)
    named = "evaluation.constraints=['val/recall/rare >= 0']"
    for weights in ("null", "balanced"):
        overrides = given(encoder, named, f"task.class_weights={weights}", "training.epochs=3")
        assert cli("train", *overrides, "data.validation=train.jsonl").code == 0
    recalls = [run.data.metrics["val/recall/rare"] for run in runs("run")]
    plain, balanced = sorted(recalls)
    by_weights = {
        run.data.params["task.class_weights"]: run.data.metrics["val/recall/rare"]
        for run in runs("run")
    }
    assert by_weights["balanced"] == balanced > 0.8
    assert plain < balanced - 0.2


def long_reviews(count: int) -> list[dict[str, str]]:
    """Return texts of some 42 words, half of them, whose last word is the label's."""
    chance = random.Random(0)
    made = []
    for i in range(count):
        label = ("neg", "pos")[i % 2]
        words = chance.choices(FILLERS, k=40 if i % 4 < 2 else 8)
        made.append({"text": " ".join([*words, label]), "label": label})
    return made


def test_long_texts_are_counted_and_windows_cover_them(cli, encoder, runs):
    write_rows(Path("train.jsonl"), long_reviews(200))
    write_rows(Path("val.jsonl"), [row for row in long_reviews(280)[200:] if len(row["text"]) > 99])
    files = ("data.validation=val.jsonl", "data.test=val.jsonl", "training.epochs=5")
    logged = {}
    for policy in ("truncate", "window", "drop"):
        overrides = given(encoder, *files, f"task.long_rows={policy}", "task.stride=4")
        assert cli("train", *overrides).code == 0
    for run in runs("run"):
        logged[run.data.params["task.long_rows"]] = run
    counts = ("rows", "examples", "long", "dropped")
    found = {
        (policy, split): [splits_of(logged[policy])[split][count] for count in counts]
        for policy in logged
        for split in ("train", "validation")
    }
    assert found == {  # 41 words make 4 windows of 14, with 4 shared
        ("truncate", "train"): [200, 200, 100, 0],
        ("truncate", "validation"): [40, 40, 40, 0],
        ("window", "train"): [200, 500, 100, 0],
        ("window", "validation"): [40, 160, 40, 0],
        ("drop", "train"): [200, 100, 100, 100],
        ("drop", "validation"): [40, 40, 40, 0],
    }
    assert logged["truncate"].data.metrics["val/accuracy"] < 0.75
    assert logged["window"].data.metrics["val/accuracy"] > 0.95


def test_a_long_row_is_refused_where_that_is_asked_for(cli, encoder):
    write_rows(Path("train.jsonl"), [*reviews(30), {"text": "good " * 20, "label": "pos"}])
    ended = cli("train", *given(encoder, "task.long_rows=error"))
    refused(ended, "row train.jsonl:31: 22 tokens", "training.max_length=16")


def test_prompt_and_columns_have_to_agree(cli, decoder):
    write_rows(Path("train.jsonl"), [{**row, "second": "good"} for row in reviews(40)])
    both = given(decoder, "task.approach=generative", "data.text_pair=second")
    refused(cli("train", *both), "task.prompt", "without {text_pair}", "data.text_pair=second")
    prompt = given(decoder, "task.approach=generative", "task.prompt='{text} {text_pair}'")
    refused(cli("train", *prompt), "task.prompt", "with {text_pair}", "null")


def test_generative_approach_refuses_unsupported_settings(cli, encoder, decoder):
    write_rows(Path("train.jsonl"), reviews(40))
    asked = "task.approach=generative"
    ended = cli("train", *given(encoder, asked))
    refused(ended, "bert, which has no causal language model", "gpt2", "smollm")
    refused(cli("train", *given(decoder, asked, "task.long_rows=window")), "long_rows=window")
    refused(cli("train", *given(decoder, asked, "training.max_length=6")), "max_length=6", "prompt")
    refused(cli("train", *given(decoder, asked, "task.multi_label=true")), "task.multi_label")


def test_both_approaches_learn_in_one_study(cli, decoder, runs):
    write_rows(Path("train.jsonl"), reviews(240))
    ended = cli(
        "train",
        "-m",
        *given(decoder, "training.epochs=4", "training.max_length=24"),
        "task.approach=head,generative",
        "hydra/sweeper/sampler=grid",
    )
    assert ended.code == 0, ended.err
    trials = runs("trial")
    assert {run.data.params["task.approach"] for run in trials} == {"head", "generative"}
    for run in trials:
        assert run.data.metrics["val/accuracy"] > 0.8
    names = [{name for name in run.data.metrics if name.startswith("val/")} for run in trials]
    assert names[0] == names[1] >= {"val/f1_macro", "val/loss"}


def test_an_encoder_decoder_learns_to_write_labels(cli, models_folder, runs):
    model = models.encoder_decoder(models_folder / "writes", WORDS)
    write_rows(Path("train.jsonl"), reviews(240))
    more = ("task.approach=generative", "training.epochs=6", "training.max_length=24")
    ended = cli("train", *given(model, *more, "optimizer.learning_rate=1e-2"))
    assert ended.code == 0, ended.err
    table = scores_of(runs("run")[0])
    assert table["accuracy", "score"] > table["accuracy", "majority score"] + 0.2
