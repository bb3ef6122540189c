"""The texts themselves: wrong encodings, very short and long ones, scripts and languages."""

from __future__ import annotations

import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from pipeline.analysis.data_check.corpus import Corpus
from pipeline.analysis.data_check.report import Finding, Level

# UTF-8 that was read as latin-1 or cp1252, and what a decoder puts where it could not.
_BROKEN = re.compile("[ÃÂ][\x80-\xbf\u2018-\u203a€™]|â€|ï»¿|\ufffd")
SHORT = 2  # letters and digits
LONG = 10  # times the median of characters
LEAST_LONG = 1000  # characters below which no text is called very long
_SCANNED = 20_000  # rows whose letters are looked at
_GUESSED = 2_000  # rows whose language is guessed
_GUESSABLE = 40  # characters of a text whose language can be guessed
_SHARE = 0.01  # of rows, from which a script or language is named


def text_findings(corpus: Corpus) -> list[Finding]:
    """Find texts that were decoded wrongly, and very short and very long ones."""
    texts = corpus.texts
    median = statistics.median(map(len, texts))
    most = max(LEAST_LONG, LONG * median)
    broken = [i for i, text in enumerate(texts) if _BROKEN.search(text)]
    short = [i for i, text in enumerate(corpus.normal) if len(text) <= SHORT]
    long = [i for i, text in enumerate(texts) if len(text) > most]
    kinds: list[tuple[Level, list[int], str]] = [
        (
            "warning",
            broken,
            "look as if they were read with a wrong encoding (Ã¤, â€™, \ufffd); see data.encoding",
        ),
        ("note", short, f"have at most {SHORT} letters or digits"),
        ("note", long, f"are over {most:,.0f} characters long, the median is {median:.0f}"),
    ]
    return [
        Finding.about(
            level,
            "text",
            f"{len(found)} of {len(texts)} texts {what}",
            corpus.groups_of([[i] for i in found]),
        )
        for level, found, what in kinds
        if found
    ]


def script_findings(corpus: Corpus) -> list[Finding]:
    """Find the scripts of the texts, if there is more than one."""
    places = _spread(len(corpus.texts), _SCANNED)
    scripts = {i: script_of(corpus.texts[i]) for i in places}
    counts = Counter(script for script in scripts.values() if script)
    named = {script: n for script, n in counts.most_common() if n >= _SHARE * len(places)}
    if len(named) < 2:
        return []
    usual = next(iter(named))
    others = [[corpus.ids[i]] for i in places if scripts[i] in named.keys() - {usual}]
    return [Finding.about("note", "language", f"scripts: {_shares(named, len(places))}", others)]


def language_findings(corpus: Corpus) -> list[Finding]:
    """Guess the languages of a sample of the longer texts (py3langid's model of 97 languages)."""
    long = [i for i, text in enumerate(corpus.texts) if len(text) >= _GUESSABLE]
    places = [long[i] for i in _spread(len(long), _GUESSED)]
    if not places:
        return []
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found: Counter[str] = Counter()
    for i in places:
        language, probability = identifier.classify(corpus.texts[i])
        found[language if probability > 0.9 else "unclear"] += 1
    named = {name: n for name, n in found.most_common() if n >= _SHARE * len(places)}
    said = f"languages, guessed from {len(places)} texts: {_shares(named, len(places))}"
    return [Finding("note", "language", said)]


def script_of(text: str) -> str:
    """Return the script of most of a text's letters by its Unicode name; empty without letters."""
    counts = Counter(_script(char) for char in text if char.isalpha())
    return counts.most_common(1)[0][0] if counts else ""


@lru_cache(maxsize=100_000)
def _script(char: str) -> str:
    return unicodedata.name(char, "unknown").split()[0].lower()


def _spread(count: int, most: int) -> Sequence[int]:
    """Return at most ``most`` positions, evenly spaced."""
    return range(0, count, max(1, -(-count // most)))


def _shares(counts: dict[str, int], whole: int) -> str:
    return ", ".join(f"{name} {n / whole:.1%}" for name, n in counts.items())
