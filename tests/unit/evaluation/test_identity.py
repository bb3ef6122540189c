"""Bias: groups that are served worse, and answers that hang on a term of identity."""

from pipeline.evaluation.identity import Terms

SWAPPED = Terms({"gender": {"he": "she", "she": "he", "his": "her"}})


def test_whole_words_are_swapped_in_their_case():
    assert SWAPPED.swapped("He said that SHE saw his theme.") == {
        "gender": "She said that HE saw her theme."
    }
    assert SWAPPED.swapped("the theme") == {}
