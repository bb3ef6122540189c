"""Regression: numbers are read, learned on the scale of training, and scored in their own unit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from pipeline.common.errors import ConfigError, DataError, ModelError
from pipeline.data import Rows, Targets, load_splits
from pipeline.data.splits import cut
from pipeline.data.targets import Moments
from pipeline.evaluation.numbers import number_scores
from pipeline.models import find_checkpoint
from pipeline.tasks import get_task
from pipeline.tasks.parts.rated import Rated
from tests.support.configs import columns_for, files, model_of, task_settings
from tests.support.rows import write_rows

NAME = "regression"
SHAPE = Rated(columns_for(NAME))
PAIRS = Rated(columns_for(NAME, text_pair="other"), one_will_do=True)
SEVERAL = Rated(columns_for(NAME, label=["x", "y"]))
NUMBERS = st.floats(-1e3, 1e3, width=32)


def rows_of(shape, *records):
    read = [shape.read(one, f"f.jsonl:{i}") for i, one in enumerate(records, start=1)]
    return Rows(
        shape, [str(i) for i in range(len(read))], {k: [r[k] for r in read] for k in read[0]}
    )


def rated(*numbers, texts="abcdefgh"):
    return [{"text": text, "label": n} for text, n in zip(texts, numbers, strict=False)]


def task_on(model, rows, max_length=16, **settings):
    config = task_settings(NAME, **settings)
    targets = Targets({}, rows.shape.moments(rows))
    return get_task(config)(config, find_checkpoint(model_of(model)), max_length, targets)


@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=30))
def test_scores_are_those_of_scipy_and_scikit_learn(pairs):
    predicted, true = (np.array(side)[:, None] for side in zip(*pairs, strict=True))
    scores = number_scores(predicted, true, ["x"])
    a, b = predicted[:, 0], true[:, 0]
    assert scores["rmse"] == pytest.approx(sk.root_mean_squared_error(b, a))
    assert scores["mae"] == pytest.approx(sk.mean_absolute_error(b, a))
    if np.ptp(b) > 1e-3:
        assert scores["r2"] == pytest.approx(sk.r2_score(b, a), abs=1e-6)
    if np.ptp(a) > 1e-3 and np.ptp(b) > 1e-3:
        assert scores["pearson"] == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-6)
        assert scores["spearman"] == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-6)


def test_constant_sides_have_no_correlation():
    scores = number_scores(np.array([[1.0], [1.0]]), np.array([[0.0], [2.0]]), ["x"])
    assert (scores["pearson"], scores["spearman"], scores["r2"]) == (0.0, 0.0, 0.0)
    assert number_scores(np.ones((3, 1)), np.full((3, 1), 0.1), ["x"])["r2"] == 0.0


def test_several_columns_are_scored_apart_and_by_their_mean():
    predicted, true = np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[1.0, 3.0], [2.0, 9.0]])
    scores = number_scores(predicted, true, ["x", "C+"])
    assert (scores["mae/x"], scores["mae/C.plus sign."], scores["mae"]) == (0.0, 3.0, 1.5)


@pytest.mark.parametrize(
    ("given", "number"), [(3, 3.0), ("3.5", 3.5), (" -1e3 ", -1000.0), (np.float32(0.5), 0.5)]
)
def test_numbers_and_texts_of_numbers_are_read(given, number):
    assert SHAPE.read({"text": "a", "label": given}, "f:1")["label"] == (number,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "good",
            "found 'good' in column 'label'; expected a finite number. .* task=class",
        ),
        ("1,5", "expected a finite number. Write 1234.5: a point"),
        (None, "no number: found None in column 'label'"),
        (float("nan"), "no number: found nan in column"),
        ("inf", "found 'inf'"),
        (1e300, "found 1e.300 in column 'label'"),
        ("1_000", "found '1_000'"),
        (True, "found True in column 'label'"),
        ([1.0], r"found \[1.0\] in column 'label'"),
    ],
)
def test_what_is_no_finite_number_is_refused(given, said):
    with pytest.raises(DataError, match=said):
        SHAPE.read({"text": "a", "label": given}, "f:1")


def test_a_constant_is_refused_and_two_numbers_look_like_classes():
    with pytest.raises(DataError, match=r"every row has the number 2\.0 in column"):
        SHAPE.check(rows_of(SHAPE, *rated(2, 2.0)))
    (said,) = SHAPE.check(rows_of(SHAPE, *rated(0, 1, 1)))
    assert said.startswith("column 'label' holds 0.0 and 1.0 alone: if these are classes, task")
    assert SHAPE.check(rows_of(SHAPE, *rated(0, 1, 2))) == []


def test_numbers_are_learned_on_the_scale_of_training_and_put_back(reader):
    import torch

    rows = rows_of(SHAPE, *rated(1000, 2000, 6000))
    task = task_on(reader, rows, loss="huber", huber_delta=0.5)
    assert rows.shape.moments(rows) == {
        "label": Moments(3000, pytest.approx(2160.24689), 1000, 6000)
    }
    examples = task.encode(rows)
    scaled = np.array(examples.dataset["labels"][:])
    assert scaled.mean() == pytest.approx(0, abs=1e-9)
    assert scaled.std() == pytest.approx(1)
    batch, model = task.collate(list(examples.dataset)), task.load_model().eval()
    with torch.no_grad():
        found = task.forward(model, batch)
    off = found["scaled"][:, 0] - batch["labels"][:, 0]
    assert found["loss"].tolist() == pytest.approx((off**2).tolist(), rel=1e-5)  # not Huber's
    assert found["weight"].tolist() == [1, 1, 1]
    model.train()
    torch.manual_seed(0)
    trained = task.forward(model, batch)
    off = (trained["scaled"] - batch["labels"]).abs()
    huber = torch.where(off < 0.5, 0.5 * off**2, 0.5 * (off - 0.25))
    assert torch.allclose(trained["loss"], huber[:, 0])
    perfect = {"scaled": scaled}
    assert task.decode(examples, perfect)["prediction"] == pytest.approx([1000, 2000, 6000])
    assert task.score(examples, perfect)["rmse"] == pytest.approx(0, abs=1e-9)
    assert task.baseline(rows, rows) == {
        "rmse": pytest.approx(2160.24689),
        "mae": pytest.approx(2000),
        "r2": pytest.approx(0),
        "pearson": 0.0,
        "spearman": 0.0,
    }


def test_windows_of_a_text_answer_by_their_mean(reader):
    text = " ".join("abcdefghij")
    rows = rows_of(SHAPE, {"text": text, "label": 0}, {"text": "a", "label": 2})
    task = task_on(reader, rows, 6, long_rows="window", stride=2)
    examples = task.encode(rows)
    assert examples.row == [0, 0, 0, 0, 1]
    outputs = {"scaled": np.array([[0.0], [1.0], [2.0], [3.0], [1.0]])}
    assert task.decode(examples, outputs)["prediction"] == [2.5, 2.0]  # 1 + 1.5 × 1, 1 + 1 × 1


def test_several_numbers_are_shown_by_column(reader):
    rows = rows_of(SEVERAL, {"text": "a", "x": 0, "y": 10}, {"text": "b", "x": 2, "y": 30})
    task = task_on(reader, rows)
    assert task.head["num_labels"] == 2
    examples = task.encode(rows)
    table = task.predictions(examples, {"scaled": np.array(examples.dataset["labels"][:])})
    assert table["label"] == [{"x": 0, "y": 10}, {"x": 2, "y": 30}]
    assert table["prediction"] == table["label"]
    names = {name.partition("/")[0] + "/" * ("/" in name) for name in task.baseline(rows, rows)}
    assert names == task.metrics(task.config).keys() - {"loss"}


def test_similarity_is_the_cosine_between_mean_embeddings(reader):
    import torch

    records = [("a b c", "d", 1), ("e", "e", 5), ("f g", "a b c d e", 3)]
    rows = rows_of(PAIRS, *({"text": a, "other": b, "label": n} for a, b, n in records))
    task = task_on(reader, rows, approach="embedding")
    examples, model = task.encode(rows), task.load_model().eval()
    outputs = task.infer(model, examples, 2)
    alone = {}
    for text in {text for a, b, _ in records for text in (a, b)}:
        ids = task.checkpoint.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            alone[text] = model(**ids).last_hidden_state[0].mean(dim=0)
    cosines = [float(torch.cosine_similarity(alone[a], alone[b], dim=0)) for a, b, _ in records]
    assert cosines[1] == pytest.approx(1, abs=1e-5)
    # 0 is the lowest number of training, 1 the highest.
    expected = [1 + 4 * cosine for cosine in cosines]
    assert task.decode(examples, outputs)["prediction"] == pytest.approx(expected, abs=1e-4)
    single = PAIRS.read({"text": "a b c"}, "f:1", with_targets=False)
    assert set(single) == {"text"}
    nested = replace(PAIRS, columns=replace(PAIRS.columns, text_pair="pair.b"))
    both = nested.read({"text": "a", "pair": {"b": "c"}}, "f:1", with_targets=False)
    assert both == {"text": "a", "text_pair": "c"}
    asked = task.encode(Rows(PAIRS, ["f:1"], {"text": ["a b c"]}))
    (found,) = task.decode(asked, task.infer(model, asked))["embedding"]
    assert found == pytest.approx(alone["a b c"].tolist(), abs=1e-5)


def test_what_embeddings_cannot_do_is_refused(writers):
    config = task_settings(NAME, approach="embedding")
    kind = get_task(config)
    with pytest.raises(ConfigError, match=r"data.text_pair=null: .* compares two texts"):
        kind.shape(config, SHAPE.columns)
    columns = replace(PAIRS.columns, label=("x", "y"))
    with pytest.raises(ConfigError, match=r"data.label=\['x', 'y'\]: .* one number"):
        kind.shape(config, columns)
    rows = rows_of(PAIRS, *({"text": "a", "other": "b", "label": n} for n in (1, 2)))
    with pytest.raises(ModelError, match="is an encoder-decoder"):
        task_on(writers["t5"], rows, approach="embedding").check()
    with pytest.raises(ValueError, match="reads each text once"):
        task_settings(NAME, approach="embedding", long_rows="window")


def test_small_numbers_keep_their_digits(reader):
    rows = rows_of(SHAPE, *rated(1.2345678e-8, 3e-8))
    task = task_on(reader, rows)
    examples = task.encode(rows)
    found = task.decode(examples, {"scaled": np.array(examples.dataset["labels"][:])})
    assert found["prediction"] == pytest.approx([1.234568e-8, 3e-8], rel=1e-6)


def test_splits_have_all_parts_of_the_range():
    numbers = [0.0] * 150 + [float(n) for n in range(1, 51)]
    rows = rows_of(SHAPE, *({"text": str(i), "label": n} for i, n in enumerate(numbers)))
    assert len(set(rows.strata[:150])) == 1
    stays, cut_off = cut(rows, 0.1, 0)
    assert sum(n > 25 for (n,) in cut_off["label"]) in (2, 3)
    assert len(stays) + len(cut_off) == 200


def test_training_rows_that_the_cuts_leave_constant_are_refused(tmp_path):
    rows = [{"text": f"a{i}", "label": 5 if i == 3 else 0} for i in range(20)]
    path = str(write_rows(tmp_path / "train.jsonl", rows))
    refused = []
    for seed in range(30):
        try:
            load_splits(files(NAME, train=path, split_seed=seed), SHAPE, with_test=False)
        except DataError as error:
            refused.append(str(error))
    assert refused
    said = "all 16 training rows have the number 0.0 in column 'label', once other splits are cut"
    assert all(said in error for error in refused)


def test_equal_numbers_of_a_split_are_noted(reader):
    task = task_on(reader, rows_of(SHAPE, *rated(1, 2)))
    (said,) = task.notes(task.encode(rows_of(SHAPE, *rated(0.1, 0.1))))
    assert said == "every row has the number 0.1: correlations and r2 are 0"
