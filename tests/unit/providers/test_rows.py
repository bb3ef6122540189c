"""The files that a service gets, and the rows that it means by their lines."""

import json

import pytest

from pipeline.common.errors import DataError
from pipeline.data.conversations import Message
from pipeline.data.layouts import LAYOUTS
from pipeline.data.rows import Rows
from pipeline.data.splits import Splits
from pipeline.providers.rows import named_rows, sent_files
from pipeline.tasks.parts.conversing import Chats
from tests.support.chats import chats, said
from tests.support.configs import columns_for


def rows(*conversations):
    ids = [f"mine.jsonl:{10 * i}" for i in range(1, len(conversations) + 1)]
    return Rows(Chats(columns_for("chat")), ids, {"messages": conversations})


def splits(train, validation):
    return Splits(rows(*train), rows(*validation), None, {}, {}, ())


@pytest.mark.parametrize("layout", ["messages", "contents"])
def test_files_read_back_as_the_rows_and_are_named_by_their_content(layout):
    given = chats(5)
    files = sent_files(splits(given, given[:1]), layout)
    lines = files["train"].content.decode().splitlines()
    assert [LAYOUTS[layout].read(json.loads(line)) for line in lines] == given
    assert files["train"].name == sent_files(splits(given, given[1:2]), layout)["train"].name
    assert files["train"].name != files["validation"].name


def test_a_row_that_the_layout_cannot_hold_is_named():
    weighted = (Message("user", "Hi"), Message("assistant", "Hm", trained=False), *said("No", "A"))
    with pytest.raises(DataError, match=r"row mine\.jsonl:20: .*weight 0"):
        sent_files(splits([chats(1)[0], weighted], chats(1)), "contents")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("Line 2, message 1: bad role", "line 2 is row mine.jsonl:20"),
        ("Flagged lines: 1, 3", "line 1 is row mine.jsonl:10; line 3 is row mine.jsonl:30"),
        ("Example 3, message 2", "line 3 is row mine.jsonl:30"),
        ("line 400 is too long", ""),
        ("it has 2 rows", ""),
    ],
)
def test_lines_in_the_services_words_are_rows(words, named):
    assert named_rows(words, rows(*chats(3))) == named
