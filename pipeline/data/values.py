"""Values of records: what counts as a text, as a label, and as a missing one."""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from pipeline.common.errors import DataError
from pipeline.common.text import words

# As JSON writes numbers, which have no leading zeros: 01 may be an identifier. And as people do.
_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)
_ANY_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)
_ENDS = (".", "!", "?", "…")  # of sentences
# Folded; those that pandas reads as missing, and that people write.
_MISSING = words("na n/a #n/a #na <na> nan -nan null none - ? unknown")
_GROUPED = re.compile(r"(?<=\d)_(?=\d)", re.ASCII)  # as in 1_000
_MARKS = {"true": "1", "false": "0"}  # JSON has words for what csv writes as numbers
# Zero-width characters: soft hyphens, joiners, marks of direction, variants of emoji.
_INVISIBLE = r"\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe0e\ufe0f\ufeff"
_NOT_SEEN = re.compile(f"[{_INVISIBLE}]")
_BLANK = re.compile(rf"[\s{_INVISIBLE}]*")
# JSON can escape half of a pair on its own ("\ud83d"); such text has no UTF-8 for a tokenizer.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def as_text(value: Any) -> str | None:
    """Return a text, or a number as its text; None for anything else."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return str(value) if is_number and value == value else None


def check_whole(text: str, where: str) -> None:
    """Refuse halves of characters, and NUL.

    Raises:
        DataError: beginning with ``where``.
    """
    half = _LONE_SURROGATE.search(text)
    if half:
        raise DataError(
            f"{where} holds {half[0]!a}, half of a surrogate pair; expected complete characters."
        )
    if "\0" in text:
        raise DataError(f"{where} holds '\\0' (NUL), which is no character of a text.")


def label_name(value: Any) -> str:
    """Return a label's name, whatever its type in the source; empty if it is missing.

    A whole number is written without fraction or exponent: ``1``, ``1.0`` and ``1e0`` are "1", as a
    number or a text. Characters are composed (NFC), and blanks inside are single spaces.
    """
    if value is None or value != value or isinstance(value, list | dict):
        return ""
    text = " ".join(unicodedata.normalize("NFC", str(value)).split())
    return _whole(text) if _JSON_NUMBER.fullmatch(text) else text


def folded(name: str) -> str:
    """Return what spelling variants of a label share: what is seen of it, without case or width.

    Of a number its value, ``1_000`` and JSON's true and false included.
    """
    seen = _NOT_SEEN.sub("", unicodedata.normalize("NFKC", name)).strip().casefold()
    number = _MARKS.get(seen, _GROUPED.sub("", seen))
    if not is_number(number):
        return seen
    whole, _, fraction = f"{Decimal(number):f}".partition(".")
    return _whole(f"{whole}.{fraction.rstrip('0')}")


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen."""
    return _BLANK.fullmatch(text) is not None


def is_number(name: str) -> bool:
    """Whether a label is written as a number."""
    return _ANY_NUMBER.fullmatch(name) is not None


def is_missing_word(name: str) -> bool:
    """Whether a label is a word that other tools write for a missing value."""
    return name.casefold() in _MISSING


def header_hint(names: Iterable[str]) -> str:
    """Return what to do if names of columns look like a row of values, or nothing."""
    looks_like_row = any(is_number(n) or len(n.split()) > 3 or n.endswith(_ENDS) for n in names)
    hint = " If that is a row, write a line above it that names the columns, such as text,label."
    return hint if looks_like_row else ""


def _whole(number: str) -> str:
    """Return a whole number as its digits, any other as it is."""
    value = Decimal(number)
    return str(int(value)) if value == value.to_integral_value() else number
