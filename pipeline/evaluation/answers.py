"""Scores of answers to questions, as SQuAD's official script counts them.

Rajpurkar et al., 2016: SQuAD, 100,000+ questions for machine comprehension of text; and 2018: Know
what you don't know, unanswerable questions for SQuAD.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from pipeline.common.languages import code, suffix, tokens


def _is_punctuation(char: str, language: str) -> bool:
    # The official script knows ASCII only; other languages as MLQA does (Lewis et al., 2020).
    if char in string.punctuation:
        return True
    return language != "en" and unicodedata.category(char).startswith("P")


def _normalised(text: str, language: str) -> list[str]:
    """Return an answer's words that count, or its characters: no case, punctuation, articles."""
    if suffix(language):
        return tokens(text, language)
    language = code(language)
    text = "".join(char for char in text.lower() if not _is_punctuation(char, language))
    if language == "en":
        text = re.sub(r"\b(a|an|the)\b", " ", text)
    return text.split()


def _f1(predicted: list[str], true: list[str]) -> float:
    """Return the harmonic mean of precision and recall of an answer's tokens."""
    if not predicted or not true:
        return float(predicted == true)
    common = (Counter(predicted) & Counter(true)).total()
    return 2 * common / (len(predicted) + len(true))


def answer_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> dict[str, float]:
    """Score answers by SQuAD's measures, each row by the reference that it is nearest to.

    As in the official script, an answer of which nothing counts (``"the"``) is no answer.

    Args:
        predictions: the answers, one a row; empty for "has no answer".
        references: the right ones of each row, as many rows; none for "has no answer".
        language: its ISO 639-1 code.

    Returns:
        ``exact_match``, ``f1`` (``f1_zh`` … of characters) and ``no_answer_accuracy``, the share of
        rows on which "has an answer" or "has none" was right: all between 0 and 1.
    """
    exact, overlap, judged = [], [], []
    for prediction, texts in zip(predictions, references, strict=True):
        predicted = _normalised(prediction, language)
        answers = [words for text in texts if (words := _normalised(text, language))]
        exact.append(predicted in (answers or [[]]))
        overlap.append(max(_f1(predicted, true) for true in answers or [[]]))
        judged.append(bool(predicted) == bool(answers))
    return {
        "exact_match": fmean(exact),
        f"f1{suffix(language)}": fmean(overlap),
        "no_answer_accuracy": fmean(judged),
    }
