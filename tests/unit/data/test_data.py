"""Data: every format gives the same rows; cuts are stratified, repeatable and never part twins."""

import codecs
import csv
import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import DataError
from pipeline.data.readers import read_records
from pipeline.data.splits import cut, sample
from pipeline.tasks.parts.labelled import Labelled
from tests.support.configs import files
from tests.support.rows import labelled, rows, tiny_task, write_rows

RECORDS = [
    {"review": 'said "no",\nand left', "stars": "neg"},
    {"review": "très bien", "stars": "pos"},
    {"review": "好", "stars": "pos"},
]


def write(path: Path) -> None:
    """Write RECORDS in the format of the suffix."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as stream:
            delimiter = "," if path.suffix == ".csv" else "\t"
            writer = csv.DictWriter(stream, ["review", "stars"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(RECORDS)
    elif path.suffix == ".json":
        path.write_text(json.dumps(RECORDS), encoding="utf-8")
    elif path.suffix == ".jsonl":
        write_rows(path, RECORDS)
    elif path.suffix == ".parquet":
        Dataset.from_list(RECORDS).to_parquet(path)
    else:
        Dataset.from_list(RECORDS).save_to_disk("saved")
        next(Path("saved").glob("*.arrow")).rename(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet", "arrow"])
def test_every_format_gives_the_same_records(suffix):
    path = Path(f"reviews.{suffix}")
    write(path)
    assert [values for _, values in read_records(path)] == RECORDS


def test_records_carry_the_line_they_start_at():
    write(Path("reviews.csv"))  # the first record spans lines 2 and 3
    assert [line for line, _ in read_records(Path("reviews.csv"))] == [2, 4, 5]


def test_a_byte_order_mark_is_no_part_of_the_first_column():
    Path("bom.csv").write_bytes(codecs.BOM_UTF8 + b"review,stars\nfine,pos\n")
    assert next(read_records(Path("bom.csv")))[1] == {"review": "fine", "stars": "pos"}


texts_and_labels = st.lists(
    st.tuples(st.sampled_from([f"text {i}" for i in range(40)]), st.sampled_from("abc")),
    min_size=30,
    max_size=200,
)


@settings(max_examples=60, deadline=None)
@given(texts_and_labels, st.integers(0, 5))
def test_a_cut_loses_no_row_and_parts_no_identical_texts(pairs, seed):
    whole = labelled([*pairs, ("one more", "a"), ("another", "a")])  # so that something can be cut
    stays, goes = cut(whole, 0.2, seed)
    assert sorted([*stays.ids, *goes.ids]) == sorted(whole.ids)
    assert not set(stays["text"]) & set(goes["text"])


@settings(max_examples=60, deadline=None)
@given(texts_and_labels, st.sampled_from([0.1, 0.5, 0.9]))
def test_a_cut_leaves_something_of_every_label(pairs, share):
    whole = labelled([*pairs, ("one more", "a"), ("another", "a"), ("one more", "rare")])
    assert set(cut(whole, share, 0)[0]["label"]) == set(whole["label"])


@settings(max_examples=30, deadline=None)
@given(texts_and_labels, st.randoms())
def test_a_cut_does_not_depend_on_the_order_of_the_file(pairs, random):
    pairs = [*pairs, ("one more", "a"), ("another", "a")]  # among them texts with several labels
    shuffled = pairs[:]
    random.shuffle(shuffled)
    _, goes = cut(labelled(pairs), 0.3, 0)
    _, of_shuffled = cut(labelled(shuffled), 0.3, 0)
    assert set(goes["text"]) == set(of_shuffled["text"])


def test_a_cut_keeps_the_share_of_each_label():
    whole = labelled([(f"text {i}", "rare" if i % 10 == 0 else "common") for i in range(500)])
    assert Counter(cut(whole, 0.2, 0)[1]["label"]) == {"common": 90, "rare": 10}


def some(rows, most, seed=0):
    return rows.take(sample(rows, most, seed, "train", "data.max_train_samples"))


def test_sampled_rows_are_as_many_as_asked_for_in_proportion():
    whole = labelled([(f"text {i}", "abc"[i % 3]) for i in range(300)])
    short = some(whole, 100)
    assert len(short) == 100
    assert sorted(Counter(short["label"]).values()) == [33, 33, 34]


def test_one_text_in_many_copies_does_not_push_out_a_label():
    whole = labelled([("spam", "a")] * 90 + [(f"text {i}", "b") for i in range(10)])
    assert Counter(some(whole, 20)["label"]) == {"a": 18, "b": 2}


def test_a_label_keeps_a_row_however_rare_it_is():
    whole = labelled([(f"text {i}", "common" if i > 4 else f"rare {i}") for i in range(500)])
    assert Counter(some(whole, 10)["label"]) == {
        "common": 5,
        **{f"rare {i}": 1 for i in range(5)},
    }


@settings(max_examples=60, deadline=None)
@given(texts_and_labels, st.integers(3, 30), st.integers(0, 5))
def test_sampled_rows_are_exactly_as_many_with_every_label(pairs, most, seed):
    short = some(labelled(pairs), most, seed)
    assert len(short) == min(most, len(pairs))
    assert set(short["label"]) == {label for _, label in pairs}


def test_fewer_rows_than_labels_are_refused():
    whole = labelled([(f"text {i}", str(i % 200)) for i in range(400)])
    with pytest.raises(DataError, match=r"data\.max_validation_samples=100: .* 200 labels"):
        sample(whole, 100, 0, "validation", "data.max_validation_samples")


def test_a_text_may_be_longer_than_csv_allows_by_itself():
    Path("long.csv").write_text(f"review,stars\n{'x' * 200_000},pos\n")
    ((_, values),) = read_records(Path("long.csv"))
    assert len(values["review"]) == 200_000


@pytest.mark.parametrize("words", [13, 14, 15, 40])
def test_cut_texts_are_counted(tiny_model, words, monkeypatch):
    task = tiny_task(tiny_model, {"a": 1, "b": 1}, max_length=16)
    kind, calls = type(task.checkpoint.tokenizer), []
    encode = kind.__call__

    def counting(self, *args, **kwargs):
        calls.append(args)
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(kind, "__call__", counting)
    examples = task.encode(labelled([("good film", "a"), ("good " * words, "b")]))
    assert examples.truncated == (words > 14)  # beside [CLS] and [SEP]
    assert len(examples.dataset) == 2
    assert sum("good film" in texts for texts, *_ in calls) == 1  # tokenized once


def test_the_test_rows_stay_out_of_training_when_they_are_not_asked_for(working_folder):
    from pipeline.data import load_splits

    path = write_rows(working_folder / "all.jsonl", rows(100))
    config = files(train=str(path), text="review", label="stars")
    read = partial(load_splits, config, Labelled(config.columns))
    asked, not_asked = read(with_test=True), read(with_test=False)
    assert asked.test is not None
    assert not_asked.test is None
    assert asked.train == not_asked.train
    assert not set(asked.test.ids) & set(asked.train.ids)
    assert asked.train.ids[0].startswith("all.jsonl:")
