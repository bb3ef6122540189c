"""What scoring has to know of a language: its tokens and sentences, its mark in a metric's name.

Chinese and Japanese write no blanks between words, and Korean ones between phrases: they are
compared by characters. Imports nothing heavy, for metrics' names depend on it.
"""

import re
import unicodedata
from collections.abc import Iterable

from pipeline.common.text import words

LANGUAGES = words(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
    dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia
    id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo
    lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl
    ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk
    tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """
)
"""The codes of ISO 639-1."""

BY_CHARACTER = ("zh", "ja", "ko")
"""Languages whose words are not set apart by blanks."""

_KANA = r"\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"
_HANGUL = r"\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
_HAN = r"\u3005-\u3007\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9\U00020000-\U0003ffff"
_SCRIPTS = {"ja": _KANA, "ko": _HANGUL, "zh": _HAN}
_CHARACTER = re.compile(f"[{_KANA}{_HANGUL}{_HAN}]")
_LETTER = re.compile(r"[^\W\d_]")

_GOOD_SHARE = 0.3  # of all letters: a character says as much as several letters of an alphabet
_TELLING_SHARE = 0.1  # of kana or Hangul among characters: headlines are mostly Han

_CLOSING = r"""["'”’»)\]）」』】]*"""
_BREAK = r"[\n\r\u2028\u2029]+"
_SENTENCE_END = re.compile(rf"[.!?…؟۔।]+{_CLOSING}(?=\s|$)|[。！？｡]+{_CLOSING}|{_BREAK}")
_SENTENCE_END_BY_CHARACTER = re.compile(rf"[.…]+{_CLOSING}(?=\s|$)|[。！？｡!?]+{_CLOSING}|{_BREAK}")
_OPENING = "([{\"'„“‚‘«¿¡"
_NUMBER = re.compile(r"\s*\d")
_ABBREVIATIONS = {
    language: words(some)
    for language, some in {
        "": "mr mrs ms dr prof st jr vs",
        "de": "bzw vgl evtl ggf inkl zzgl ca hr fr z d u o str sog",
        "en": "gen col capt lt sgt rep sen gov rev hon messrs mt approx inc ltd corp co cf",
        "es": "sr sra srta dra ud uds",
        "fr": "mme mlle env av p",
        "it": "sig dott avv ing",
        "nl": "dhr mevr bijv ca",
        "pt": "sr sra dra",
        "ru": "г т ул им руб тыс млн млрд стр см",
    }.items()
}
_NUMBERED = words(
    "no nos nr fig figs vol eq sec ch art pp p abb bd s kap"
    " jan feb mar apr jun jul aug sep sept oct nov dec"
)
_DOT_AFTER_ORDINALS = words("bs cs da de et fi fo hr hu is lv nb nn no pl sk sl sr")


def code(language: str) -> str:
    """Return the ISO 639-1 code of a language: ``zh`` for ``zh``, ``zh-CN`` and ``zh_Hans``.

    Raises:
        ValueError: if it has none. A wrong one (``cn``, ``jp``) would be cut into words that no
            text has twice, and score zero.
    """
    found = re.split("[-_]", language)[0].lower()
    if found not in LANGUAGES:
        raise ValueError(
            f"Unknown language {language!r}: give its two letters of ISO 639-1 (en, de, zh, ja, …)."
        )
    return found


def suffix(language: str) -> str:
    """Return what metrics of the language's tokens are marked with: ``_zh``; nothing for ``en``."""
    found = code(language)
    return f"_{found}" if found in BY_CHARACTER else ""


def _in_word(char: str) -> bool:
    # Vowels of Hindi and Thai and what is left of a lower-cased İ are marks, which \w leaves out.
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")


def tokens(text: str, language: str) -> list[str]:
    """Return a text's lower-cased words, or its characters where the language sets no blanks.

    Runs of another script are one token there too. Texts are compared in Unicode's form NFKC:
    full-width and composed letters equal plain ones.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    if suffix(language):
        text = _CHARACTER.sub(r" \g<0> ", text)
    spaced = "".join(char if _in_word(char) else " " for char in text)
    return [word for word in spaced.split() if re.search(r"\w", word)]  # no marks of an emoji


def _goes_on(sentence: str, number_follows: bool, language: str) -> bool:
    """Whether the dot after this belongs to an abbreviation, an initial or an ordinal number."""
    written = sentence.rsplit(maxsplit=1)[-1].lstrip(_OPENING) if sentence.strip() else ""
    word = written.lower()
    last = re.split(r"[.\-]", written)[-1]
    if len(last) == 1 and last.isalpha() and (last.isupper() or "." in written):
        return not _CHARACTER.match(last)
    if word.isdigit():
        starts = sentence.strip() == word  # the number of a list's item
        return starts or (len(word) <= 2 and language in _DOT_AFTER_ORDINALS)
    if word in _NUMBERED and number_follows:
        return True
    return word in _ABBREVIATIONS[""] | _ABBREVIATIONS.get(language, frozenset())


def sentences(text: str, language: str) -> list[str]:
    """Split a text after ``.``, ``!``, ``?``, ``。``, ``！``, ``？`` and at line breaks.

    A dot ends a sentence only before a blank, and not after an abbreviation, an initial or a
    number that counts items or days.
    """
    found, start, language = [], 0, code(language)
    ends = _SENTENCE_END_BY_CHARACTER if language in BY_CHARACTER else _SENTENCE_END
    for end in ends.finditer(text):
        number_follows = bool(_NUMBER.match(text, end.end()))
        if end[0] == "." and _goes_on(text[start : end.start()], number_follows, language):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def lead(text: str, count: int, language: str) -> str:
    """Return a text's first sentences, a line each: the baseline of a summary."""
    return "\n".join(sentences(text, language)[:count])


def cjk_language(texts: Iterable[str]) -> str | None:
    """Return ``ja``, ``ko`` or ``zh`` for texts that are to be compared by characters, else None.

    By their letters: Han alone is Chinese, Japanese has kana and Korean Hangul among it.
    """
    letters, count = 0, dict.fromkeys(_SCRIPTS, 0)
    for text in texts:
        letters += len(_LETTER.findall(text))
        for language, script in _SCRIPTS.items():
            count[language] += len(re.findall(f"[{script}]", text))
    characters = sum(count.values())
    if not characters or characters < _GOOD_SHARE * letters:
        return None
    told = max("ja", "ko", key=count.__getitem__)
    return told if count[told] >= _TELLING_SHARE * characters else "zh"
