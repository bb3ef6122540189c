"""Pages, as the official client walks through them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hosting.documents import append, new_id, page, read_lines
from pipeline.hosting.errors import ApiError


@given(st.integers(0, 12), st.integers(1, 5))
def test_pages_have_everything_once_and_in_order(count, limit):
    every = [{"id": str(i)} for i in range(count)]
    walked, after, more = [], None, True
    while more:
        found = page(every, after, limit, "thing")
        walked += found["data"]
        more = found["has_more"]
        after = walked[-1]["id"] if walked else None
    assert walked == every


def test_a_page_after_an_unknown_id_is_refused():
    with pytest.raises(ApiError, match="No such thing: 7") as error:
        page([{"id": "1"}], "7", 5, "thing")
    assert error.value.status == 404


def test_a_line_that_was_cut_off_is_none(tmp_path):
    file = tmp_path / "events.jsonl"
    append(file, {"id": "1"})
    with file.open("a") as stream:
        stream.write('{"id": "2"')
    assert read_lines(file) == [{"id": "1"}]
    append(file, {"id": "3"})
    assert read_lines(file) == [{"id": "1"}, {"id": "3"}]


def test_ids_sort_by_time():
    ids = [new_id("file") for _ in range(50)]
    assert sorted(ids) == ids
    assert len(set(ids)) == len(ids)
