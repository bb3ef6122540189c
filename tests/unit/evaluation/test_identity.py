"""Terms of identity are swapped in a text as whole words, in their case."""

from pipeline.evaluation.identity import Terms

SWAPPED = Terms({"gender": {"he": "she", "she": "he", "his": "her"}})


def test_whole_words_are_swapped_in_their_case():
    assert SWAPPED.swapped("He said that SHE saw his theme.") == {
        "gender": "She said that HE saw her theme."
    }
    assert SWAPPED.swapped("the theme") == {}
