"""What a model card says of where the rows of a run come from."""

import pytest

from pipeline.tracking.card_source import CardSource, card_source

GLUE = {"source": "hub", "name": "nyu-mll/glue", "subset": "sst2", "revision": "abc"}


def test_a_data_set_of_the_hub_keeps_its_name_apart_from_subset_and_revision():
    said = CardSource("nyu-mll/glue (sst2)", "nyu-mll/glue", True, "sst2", "abc")
    assert card_source(GLUE, "hub") == said


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        ({"train": "/home/me/a b.csv"}, "a b.csv", "a-b.csv"),
        ({"train": ["/home/me/a.csv", "c/d.csv"]}, "a.csv, d.csv", "a.csv-d.csv"),
        ({"train": {"path": "tweets/all.csv", "distribution": "tweets"}}, "all.csv", "all.csv"),
        ({"train": "评论"}, "评论", "data"),
        ({"source": "hub", "name": "/home/me/reviews"}, "reviews", "reviews"),
        ({"source": "hub", "name": "me/reviews"}, "reviews", "reviews"),
    ],
)
def test_of_files_and_folders_a_card_has_the_last_names_alone(data, name, kind):
    said = card_source({"source": "files", **data}, "folder")
    assert (said.name, said.type, said.is_on_hub) == (name, kind, False)
