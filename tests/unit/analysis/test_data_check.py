"""Tables of the data check."""

from types import SimpleNamespace

from pipeline.analysis.data_check.corpus import Corpus
from pipeline.analysis.data_check.labels import label_table

SETS = {"train": [("toxic", "spam"), ("toxic",), (), ("spam",)], "validation": [("toxic",)]}


def test_share_of_a_label_is_one_of_rows_also_where_rows_have_several():
    def rows_of(labels):
        shape = SimpleNamespace(has_classes=True, labels=lambda _: labels)
        return SimpleNamespace(ids=[str(i) for i in range(len(labels))], shape=shape)

    corpus = Corpus({split: rows_of(labels) for split, labels in SETS.items()})
    table = label_table(corpus)
    assert table.records() == [
        {"label": "toxic", "train split": 2, "validation split": 1, "share of train split": 0.5},
        {"label": "spam", "train split": 2, "validation split": 0, "share of train split": 0.5},
    ]
    assert label_table(corpus, are_split=False).columns[-1] == "share of train read"
