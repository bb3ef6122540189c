"""A reply is told in pieces, and together they are what it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hosting.writing import Text

STOPS = ["<end>", "ab", "b\n"]


def told(whole, cuts, stops):
    """Return the pieces that are told of a text as it grows."""
    text = Text(stops)
    places = sorted({*(cut % (len(whole) + 1) for cut in cuts), len(whole)})
    pieces = [text.more(whole[:place]) for place in places]
    return [*pieces, text.rest()], text


@given(st.text("ab <end>\n", max_size=30), st.lists(st.integers(0, 30)), st.booleans())
def test_the_pieces_are_the_text_up_to_the_first_stop(whole, cuts, stopped):
    stops = STOPS if stopped else []
    pieces, text = told(whole, cuts, stops)
    found = [at for stop in stops if (at := whole.lstrip().find(stop)) >= 0]
    expected = whole.lstrip()[: min(found, default=None)].strip()
    assert "".join(pieces) == expected
    assert text.is_over == bool(found)


def test_half_a_character_is_not_told():
    text = Text([])
    assert text.more("caf�") == "caf"
    assert text.more("café") == "é"


@pytest.mark.parametrize("stops", [[], ["."]])
def test_a_word_is_told_as_soon_as_it_is_sure(stops):
    text = Text(stops)
    assert [text.more("A"), text.more("A town"), text.more("A town and")] == ["A", " town", " and"]
