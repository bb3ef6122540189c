"""Tables of the data check."""

from types import SimpleNamespace

import pytest

from pipeline.analysis.data_check.corpus import Corpus
from pipeline.analysis.data_check.files import ends_oddly
from pipeline.analysis.data_check.labels import label_findings, label_table, spellings

SETS = {"train": [("toxic", "spam"), ("toxic",), (), ("spam",)], "validation": [("toxic",)]}


FLAGS = ("True", "True", "1")  # JSON's true, and csv's


def corpus_of(sets):
    def rows_of(labels):
        shape = SimpleNamespace(
            has_classes=True,
            has_one_label=True,
            labels=lambda _: labels,
            doubtful_labels=lambda _: [],
        )
        return SimpleNamespace(ids=[str(i) for i in range(len(labels))], shape=shape)

    return Corpus({split: rows_of(labels) for split, labels in sets.items()})


def test_share_of_a_label_is_one_of_rows_also_where_rows_have_several():
    corpus = corpus_of(SETS)
    table = label_table(corpus)
    assert table.records() == [
        {"label": "toxic", "train split": 2, "validation split": 1, "share of train split": 0.5},
        {"label": "spam", "train split": 2, "validation split": 0, "share of train split": 0.5},
    ]
    assert label_table(corpus, are_split=False).columns[-1] == "share of train read"


def test_variants_of_numbers_are_reported_and_those_of_case_alone_are_mended():
    labels = ("1.1", "1.1", "1.10", "a", "a", "A", "01", "c", "c\u200b", *FLAGS)
    corpus = corpus_of({"train": [(label,) for label in labels]})
    messages = " ".join(finding.message for finding in label_findings(corpus))
    assert "'1.1' (2 rows) is also written '1.10' (1 row)" in messages
    assert "'a' (2 rows) is also written 'A' (1 row)" in messages
    assert r"'c' (1 row) is also written 'c\u200b' (1 row)" in messages
    assert "'True' (2 rows) is also written '01' (1 row), '1' (1 row)" in messages
    assert spellings(corpus) == {"A": "a"}


@pytest.mark.parametrize(
    ("errors", "is_truncated"),
    [
        (["a.csv, line 3: found 1 field, expected 2."], True),
        (["a.csv, row a.csv:3: no label: found ''."], True),
        (["a.csv, line 2: found 3 fields.", "a.csv, line 3: found 1 field."], True),
        (["a.csv, line 2: found 3 fields.", "a.csv, line 3: found 4 fields."], False),
        (
            ["a.csv, row a.csv:2: found 'a', a text.", "a.csv, row a.csv:3: found [1], a text."],
            False,
        ),
        (["a.csv, line 33: found 1 field, expected 2."], False),
        ([], False),
    ],
)
def test_a_file_is_truncated_where_only_its_last_line_has_a_fault(errors, is_truncated):
    assert ends_oddly("a.csv", 3, None, errors) == is_truncated
