"""Schemes of tags: how the tags of words say where entities begin and end.

Ramshaw and Marcus, 1995: Text chunking using transformation-based learning; Tjong Kim Sang and
Veenstra, 1999: Representing text chunks. Tags that are not well-formed are read as conlleval and
seqeval read them: an entity begins where the tag, or the type, says so, and ends likewise.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline.common.errors import DataError, quoted

SchemeName = Literal["bio", "iob1", "bioes", "plain"]

OUTSIDE = "O"
_TAG = re.compile(r"(?P<letter>[BIESLU])(-(?P<label>.+))?")
_NO_TYPE = "_"  # of B and I alone, as seqeval calls it
_ALIASES = {"L": "E", "U": "S"}  # BILOU's letters


class Entity(NamedTuple):
    """A part of a row: of its words, or of the characters of its text."""

    start: int
    end: int  # after the last one
    label: str


@dataclass(frozen=True)
class Scheme:
    """The letters before the type, by the place of a word in its entity."""

    single: str
    first: str
    inner: str
    last: str
    whole: re.Pattern[str]  # the letters of a well-formed entity
    readable: re.Pattern[str]  # those that a file may have
    expected: str  # in words


_WITHOUT_START = "B-TYPE for the first word of an entity and I-TYPE for the others"
SCHEMES: dict[SchemeName, Scheme] = {
    "bio": Scheme("B", "B", "I", "I", re.compile("BI*"), re.compile("BI*"), _WITHOUT_START),
    "iob1": Scheme(
        "B", "B", "I", "I", re.compile("BI*"), re.compile("[BI]I*"), "B-TYPE and I-TYPE"
    ),
    "bioes": Scheme(
        *("S", "B", "I", "E"),
        *(re.compile("S|BI*E"),) * 2,
        "S-TYPE for a word alone, else B-TYPE, I-TYPE and E-TYPE (or BILOU's U and L)",
    ),
    "plain": Scheme("", "", "", "", re.compile("I+"), re.compile("I+"), "a type"),
}


def vocabulary(labels: Sequence[str], name: SchemeName) -> tuple[str, ...]:
    """Return all tags of these types: what a model answers with."""
    scheme = SCHEMES[name]
    letters = dict.fromkeys((scheme.single, scheme.first, scheme.inner, scheme.last))
    return OUTSIDE, *(_tag(letter, label) for label in labels for letter in letters)


def written(entities: Sequence[Entity], words: int, name: SchemeName) -> list[str]:
    """Return the tags of so many words, some of which are entities that do not overlap."""
    scheme, tags = SCHEMES[name], [OUTSIDE] * words
    for start, end, label in entities:
        inner = [scheme.inner] * (end - start - 2)
        several = [scheme.first, *inner, scheme.last]
        letters = several if end - start > 1 else [scheme.single]
        tags[start:end] = [_tag(letter, label) for letter in letters]
    return tags


def entities_in(tags: Sequence[str], name: SchemeName, *, strict: bool = False) -> list[Entity]:
    """Return the entities that the tags of words tell; with ``strict``, the well-formed alone."""
    whole = SCHEMES[name].whole
    return [entity for entity, of in _chunks(tags, name) if not strict or whole.fullmatch(of)]


def read_tags(tags: Sequence[str], name: SchemeName, where: Callable[[int], str]) -> list[Entity]:
    """Return the entities of tags that a person wrote.

    Args:
        tags: of words.
        name: of the scheme.
        where: says which word it is, by its position.

    Raises:
        DataError: for the first word whose tag is none of the scheme, or continues nothing.
    """
    scheme = SCHEMES[name]
    for i, tag in enumerate(tags):
        if not tag or (tag != OUTSIDE and name != "plain" and _TAG.fullmatch(tag) is None):
            plain = " If tags are types alone: task.scheme=plain." if len(tag) > 1 else ""
            names = " Numbers stand for names that the file lacks." if tag.isdecimal() else plain
            raise DataError(
                f"{where(i)}: found the tag {reprlib.repr(tag)}; expected {OUTSIDE}, or "
                f"{scheme.expected}, since task.scheme={name}.{names}"
            )
    found = []
    for entity, letters in _chunks(tags, name):
        if scheme.readable.fullmatch(letters) is None:
            own = quoted(tags[entity.start : entity.end][:4])
            before = f"after {tags[entity.start - 1]!r}" if entity.start else "at the beginning"
            raise DataError(
                f"{where(entity.start)}: found {own} {before}; expected {scheme.expected}, since "
                f"task.scheme={name}.{_hint(letters, name)}"
            )
        found.append(entity)
    return found


def _hint(letters: str, name: SchemeName) -> str:
    """Return which other scheme has such an entity."""
    others = (
        other for other, of in SCHEMES.items() if other != name and of.readable.fullmatch(letters)
    )
    other = next(others, None)
    return f" Files where that is right: task.scheme={other}." if other else ""


def _tag(letter: str, label: str) -> str:
    return f"{letter}-{label}" if letter else label


def _parsed(tag: str, name: SchemeName) -> tuple[str, str]:
    """Return letter and type; a type alone goes on with what has the same."""
    if name == "plain":
        return "I", tag
    found = _TAG.fullmatch(tag)
    assert found is not None
    letter = found["letter"]
    return _ALIASES.get(letter, letter), found["label"] or _NO_TYPE


def _chunks(tags: Sequence[str], name: SchemeName) -> Iterator[tuple[Entity, str]]:
    """Yield each entity with the letters of its words."""
    start, letters, label = 0, "", ""
    for i, tag in enumerate([*tags, OUTSIDE]):
        letter, own = ("", "") if tag == OUTSIDE else _parsed(tag, name)
        goes_on = letter in ("I", "E") and letters[-1:] in ("B", "I") and own == label
        if letters and not goes_on:
            yield Entity(start, i, label), letters
        if not goes_on:
            start, letters = i, ""
        letters, label = letters + letter, own
