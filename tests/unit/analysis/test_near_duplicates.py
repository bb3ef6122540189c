"""Texts that are nearly or quite the same are found, and no others."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.analysis.data_check.corpus import normalised, repeated
from pipeline.analysis.data_check.near import THRESHOLD, near_duplicates, similarity


@given(
    st.lists(st.text("abc xyz.", min_size=30, max_size=60), min_size=2, max_size=12, unique=True)
)
def test_texts_are_grouped_by_their_true_similarity(texts):
    """What is reported is near indeed; hypothesis tries to find a pair that is not."""
    for group in near_duplicates(texts):
        for i in group:
            assert any(similarity(texts[i], texts[j]) >= THRESHOLD for j in group if j != i)


def test_a_text_with_one_letter_more_is_found_among_others():
    text = "the film was so good that we stayed for the second showing of the same evening"
    others = [f"{i} {chr(97 + i) * 30}" for i in range(20)]
    assert near_duplicates([text, *others, f"{text}s"]) == [[0, 21]]


def test_texts_of_other_case_width_and_blanks_are_the_same():
    texts = ["Good day!", "good  day", "ＧＯＯＤ ＤＡＹ", "good days", "!!", "??"]
    keys = [normalised(text) for text in texts]
    assert repeated(keys) == [[0, 1, 2]]
