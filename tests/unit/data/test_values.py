"""Values of records: labels are the same names in every format, numbers are texts."""

import json
import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.common.errors import DataError
from pipeline.data.shapes import text_of
from pipeline.data.values import as_text, folded, is_blank, is_missing_word, label_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *[(one, "1") for one in ("1", "1.0", "1e0", "1.0E+00", 1, 1.0, Decimal("1.0"))],
        *[(one, one) for one in ("01", "+1", "1.10", "1_0", "1e999", "v1.0")],  # identifiers
        ("12345678901234567890", "12345678901234567890"),
        (True, "True"),
        ("cafe\u0301", "caf\u00e9"),
        (" very\u00a0 good\n", "very good"),
        *[(one, "") for one in (None, float("nan"), " ", [1], {})],
    ],
)
def test_a_label_is_a_name_whatever_its_type(value, name):
    assert label_name(value) == name
    assert label_name(name) == name


@given(st.integers() | st.floats(-1e90, 1e90))
@example(1e16)
@example(-0.0)
def test_a_number_is_the_same_label_in_csv_and_jsonl(number):
    assert label_name(json.dumps(number)) == label_name(json.loads(json.dumps(number)))


def test_variants_of_a_label_are_folded_to_one():
    assert {folded(one) for one in ("1", "01", "+1", "1.", "001.00", "\uff11", "True")} == {"1"}
    assert folded("1_0") == folded("10") != folded("_10") == "_10"
    assert folded("c\u200b") == folded("\uff23") == "c"
    assert folded("Stra\u00dfe") == folded("STRASSE")
    assert len({folded(one) for one in ("1.1", "1.01", "1a", "01a")}) == 4


@given(st.decimals(-1000, 1000, places=3), st.sampled_from(["", "0", "00"]), st.integers(0, 3))
@example(Decimal("1.5"), "", 1)
def test_spellings_of_a_number_are_variants_and_one_label_if_it_is_whole(number, before, after):
    sign = "-" if number < 0 else ""
    spelt = f"{sign}{before}{abs(number):f}{'0' * after}"
    assert folded(spelt) == folded(str(number.normalize()))
    assert Decimal(folded(spelt)) == number
    if number == int(number):
        assert label_name(f"{number:f}{'0' * after}") == folded(spelt) == str(int(number))


@pytest.mark.parametrize("text", ["", " \n", "\u200b", " \ufeff\u200d", "\u00a0"])
def test_a_text_of_which_nothing_is_seen_is_blank(text):
    assert is_blank(text)
    assert not is_blank(f"{text}.")
    with pytest.raises(DataError, match=f"no text: found {re.escape(repr(text))}"):
        text_of({"text": text}, "data.text", "text", "a.csv:2")


def test_words_for_missing_values_are_known_in_any_case():
    assert all(map(is_missing_word, ("NA", "n/a", "-", "?", "Unknown")))
    assert not any(map(is_missing_word, ("no", "--", "unknowns", "neutral")))


def test_a_number_is_a_text_and_other_values_are_none():
    assert [as_text(one) for one in (22, 0.5, Decimal("1.50"), "a")] == ["22", "0.5", "1.50", "a"]
    assert [as_text(one) for one in (True, None, float("nan"), [1])] == [None] * 4
