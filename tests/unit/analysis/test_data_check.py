"""Tables of the data check."""

from types import SimpleNamespace

from pipeline.analysis.data_check.corpus import Corpus
from pipeline.analysis.data_check.labels import label_findings, label_table, spellings

SETS = {"train": [("toxic", "spam"), ("toxic",), (), ("spam",)], "validation": [("toxic",)]}


def corpus_of(sets):
    def rows_of(labels):
        shape = SimpleNamespace(
            has_classes=True, labels=lambda _: labels, doubtful_labels=lambda _: []
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
    corpus = corpus_of({"train": [(one,) for one in ("1.1", "1.1", "1.10", "a", "a", "A", "01")]})
    messages = " ".join(finding.message for finding in label_findings(corpus))
    assert "'1.1' (2 rows) is also written '1.10' (1 row)" in messages
    assert "'a' (2 rows) is also written 'A' (1 row)" in messages
    assert spellings(corpus) == {"A": "a"}
