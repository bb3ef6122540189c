"""Rows of texts and labels: what is read as a label, and which data are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.common.errors import ConfigError, DataError
from pipeline.data import load_splits
from pipeline.tasks.classification import Classification
from tests.support.configs import columns_for, files, task_settings
from tests.support.rows import write_rows


def shape_of(*, multi_label=False, **columns):
    config = task_settings("classification", multi_label=multi_label)
    return Classification.shape(config, columns_for("classification", **columns))


def read(shape, **values):
    return shape.read({"text": "a", **values}, "a.csv:2")["label"]


def splits_of(train, validation):
    """Return the splits of rows of these labels, from files."""
    paths = {}
    for name, labels in (("train", train), ("validation", validation)):
        records = [{"text": f"{name} {i}", "label": one} for i, one in enumerate(labels)]
        paths[name] = str(write_rows(Path(f"{name}.jsonl"), records))
    return load_splits(files(**paths), shape_of(), with_test=False)


def test_words_for_missing_labels_are_refused_or_no_label_of_a_set():
    shape = shape_of(missing_labels=["NA", float("nan"), None])
    for word in ("NA", "na ", "NaN", "null"):
        with pytest.raises(DataError, match=rf"a\.csv:2: no label: found '{word}' \(one of data"):
            read(shape, label=word)
    assert read(shape, label="none") == "none"
    several = shape_of(multi_label=True, label_separator=";", missing_labels=["NA"])
    assert [read(several, label=cell) for cell in ("NA", "na; b", "")] == [(), ("b",), ()]


def test_columns_of_0_and_1_are_a_set_of_labels():
    shape = shape_of(multi_label=True, label=["toxic", "spam"])
    assert read(shape, toxic="1", spam=1.0) == ("spam", "toxic")
    assert read(shape, toxic=False, spam="0.0") == ()
    with pytest.raises(DataError, match=r"a\.csv:2: found '' in column 'spam', expected 0 or 1"):
        read(shape, toxic="1", spam="")
    with pytest.raises(DataError, match="there is no column 'spam'"):
        read(shape, toxic="1")
    with pytest.raises(ConfigError, match=r"data\.label=\['toxic', 'spam'\]: .*multi_label=true"):
        shape_of(label=["toxic", "spam"])


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ("classification", {"text": "label"}, "data.text and data.label both name .* 'label'"),
        ("classification", {"label": ["a", "text"]}, "data.text and data.label both"),
        ("classification", {"label": ["a", "a"]}, "names the column 'a' twice"),
        ("classification", {"label": []}, "a column, or a list of columns that hold 0 or 1"),
        ("classification", {"label": ["a"], "label_separator": ";"}, "label_separator=';': exp"),
        ("translation", {"input": "a", "target": "a"}, "data.input and data.target both name"),
        ("question_answering", {"question": "context"}, "data.context and data.question both"),
    ],
)
def test_columns_that_exclude_each_other_are_refused(task, columns, message):
    with pytest.raises(ValidationError, match=message):
        columns_for(task, **columns)


def test_labels_that_differ_in_signs_alone_are_classes():
    found = splits_of(["<50K", ">50K", "C+", "C#", "😀", "😡"] * 2, ["<50K"])
    assert len(found.targets.counts) == 6


def test_numbers_as_labels_are_one_class():
    assert splits_of(["0", "1", 1, 0], ["1.0", "0.0"]).targets.counts.keys() == {"0", "1"}


def test_a_variant_of_a_label_that_training_lacks_is_named():
    with pytest.raises(DataError, match=r"the label '01' .*\(it is '1' there; write both alike"):
        splits_of(["0", "1", "1", "0"], ["01"])
    with pytest.raises(DataError, match=r"the label 'B' .*\(it is 'b' there; check --fix OUT"):
        splits_of(["a", "b", "b", "a"], ["B"])


def test_many_numbers_are_refused_with_a_hint_to_regression():
    with pytest.raises(DataError, match=r"3 different labels on 4 rows; .* task=regression"):
        splits_of(["0.5", 1.5, "-2", 1.5], [1.5])
