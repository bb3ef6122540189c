"""The shape of tagged rows: words with a tag each, or a text with its entities."""

from __future__ import annotations

import ast
import json
import re
import reprlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import DataError, amount
from pipeline.config.task import AnyColumns
from pipeline.config.types import STRICT, Text
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import Shape, column_of, place_of, rarest, text_of, value_in
from pipeline.data.values import as_text, check_whole, is_blank, label_name
from pipeline.tasks.parts.tags import OUTSIDE, Entity, SchemeName, read_tags

Words = tuple[tuple[int, int], ...]  # the characters of each word of a text

# Chinese and Japanese characters are words: they have no blanks between them.
_WIDE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER, _SIGN = rf"[^\W\d_{_WIDE}]", rf"[{_WIDE}]|\d+|[^\w\s]|_"
_EITHER = rf"(?:{_LETTER}|\d)"
# Where entities are given as spans: letters, numbers and single signs, so that few begin in a word.
_FINE = re.compile(rf"{_LETTER}+|{_SIGN}")
# Where words are given, about as they are in most files: U.S., don't, two-thirds, @name and ... are
# words, and so is the 's of Smith's.
_EXAMPLE = 'as {"start": 0, "end": 4, "label": "PER"}'
_COARSE = re.compile(
    rf"(?:{_LETTER}\.){{2,}}(?:{_LETTER}(?!{_LETTER}))?|[@#]\w+|['’]s\b|\.{{2,}}"
    rf"|{_EITHER}+(?:[-.,&/]{_EITHER}+|['’](?!s\b){_EITHER}+)*|{_SIGN}"
)


@checked(config=STRICT, frozen=True, kw_only=True)
class TaggedColumns(AnyColumns):
    """Words and their tags, or a text and its entities."""

    text: Text
    tokens: Text  # a list of words, or a text with blanks between them
    tags: Text  # of the words, likewise
    # [{"start": 0, "end": 4, "label": …}] in characters of the text; null: words have tags.
    entities: Text | None


@dataclass(frozen=True)
class Tagged(Shape):
    """Columns ``text``, ``words`` and ``entities``, both by their characters in the text."""

    has_classes = True
    columns: TaggedColumns
    scheme: SchemeName = "bio"

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return a text, its words and its entities.

        A text is the given words with blanks between them, or is split into words here. Prediction
        reads words where the record has them.
        """
        column = self.columns.entities
        has_words = isinstance(value_in(values, self.columns.tokens), list | str)
        if column is None and (with_targets or has_words):
            return self._tokens(values, place, with_targets=with_targets)
        text = text_of(values, "data.text", self.columns.text, place)
        row: Row = {"text": text, "words": words_in(text, _COARSE if column is None else _FINE)}
        if with_targets and column is not None:
            given = column_of(values, "data.entities", column, place)
            row["entities"] = _spans(given, text, f"{place}: column {column!r}")
        return row

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep equal texts together."""
        return rows["text"]

    @property
    def inputs(self) -> Mapping[str, str]:
        """The text, whatever training read."""
        return {self.columns.text: "text"}

    def labels(self, rows: Rows) -> Sequence[Sequence[str]]:
        """Return the types of each row's entities."""
        return [tuple(sorted({one.label for one in of})) for of in rows["entities"]]

    def strata(self, rows: Rows) -> Sequence[str]:
        """Return the rarest type of each row."""
        return rarest(self.labels(rows))

    def check(self, train: Rows) -> list[str]:
        """Refuse rows without any entity."""
        if not any(train["entities"]):
            column = self.columns.entities or self.columns.tags
            key = "tags" if self.columns.entities is None else "entities"
            raise DataError(
                f"{place_of(train)}: no row has an entity; expected at least one (data.{key}="
                f"{column} names the column)."
            )
        return []

    def _tokens(self, values: Values, place: str, *, with_targets: bool) -> Row:
        try:
            words = _listed(values, "data.tokens", self.columns.tokens, place, as_text)
        except DataError as error:
            if self.columns.tokens in values or self.columns.text not in values:
                raise
            raise DataError(
                f"{error} If rows are texts with spans, data.entities names their column."
            ) from error
        tags: list[str] = []
        if with_targets:
            tags = _listed(values, "data.tags", self.columns.tags, place, label_name)
            if len(tags) != len(words):
                both = f"{amount(len(words), 'word')} and {amount(len(tags), 'tag')}"
                raise DataError(
                    f"{place}: {both} in the columns {self.columns.tokens!r} and "
                    f"{self.columns.tags!r}; expected the same number."
                )
        for i, word in enumerate(words):
            check_whole(word, f"{place}: word {i + 1}")
            if is_blank(word) and tags and tags[i] != OUTSIDE:
                raise DataError(f"{place}: word {i + 1} is blank, and tagged {tags[i]!r}.")
        text = " ".join(words)
        if is_blank(text):
            raise DataError(
                f"{place}: no word in column {self.columns.tokens!r}; expected at least one."
            )
        ends = [-1]
        for word in words:
            ends.append(ends[-1] + 1 + len(word))
        places = tuple((a + 1, b) for a, b in pairwise(ends))
        row: Row = {"text": text, "words": places}
        if with_targets:
            lines = values.get("lines")  # of a CoNLL file

            def where(word: int) -> str:
                line = f" (line {lines[word]})" if isinstance(lines, list) else ""
                return f"{place}: word {word + 1}{line}"

            row["entities"] = to_characters(read_tags(tags, self.scheme, where), places)
        return row


def words_in(text: str, word: re.Pattern[str]) -> Words:
    """Return the words of a text; an accent or a vowel sign of its own is part of its letter."""
    if text.isascii():
        return tuple(found.span() for found in word.finditer(text))
    letters = ""  # in which a mark is the letter before it
    for sign in text:
        letters += letters[-1] if _is_mark(sign) and letters[-1:].isalpha() else sign
    spans: list[tuple[int, int]] = []
    for start, end in (found.span() for found in word.finditer(letters)):
        # A mark begins a word only where its letter is one of its own.
        if spans and _is_mark(text[start]) and letters[start].isalpha():
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple(spans)


def _is_mark(sign: str) -> bool:
    return unicodedata.category(sign)[0] == "M"


def to_characters(entities: Sequence[Entity], words: Words) -> tuple[Entity, ...]:
    """Return entities of words as those of the text."""
    return tuple(Entity(words[a][0], words[b - 1][1], label) for a, b, label in entities)


def to_words(entities: Sequence[Entity], words: Words) -> list[Entity]:
    """Return entities of a text as those of the words that they overlap; some overlap none."""
    found: list[Entity] = []
    for start, end, label in entities:
        touched = [i for i, (a, b) in enumerate(words) if a < end and b > start]
        first = max(touched[0], found[-1].end if found else 0) if touched else 0
        if touched and first <= touched[-1]:  # two entities may share a word: it is the first one's
            found.append(Entity(first, touched[-1] + 1, label))
    return found


def _listed(
    values: Values, key: str, column: str, place: str, read: Callable[[Any], str | None]
) -> list[str]:
    """Return the parts of a cell: a list, one as a text, or a text with blanks between them."""
    given = column_of(values, key, column, place)
    if isinstance(given, str):
        found = _list_in(given)
        given = given.split() if found is None else found
    if not isinstance(given, list):
        raise DataError(
            f"{place}: found {reprlib.repr(given)} in column {column!r} ({key}); expected a list, "
            "or a text with blanks between its parts."
        )
    parts = []
    for i, one in enumerate(given, start=1):
        part = read(one)
        if part is None or isinstance(one, bool):
            raise DataError(
                f"{place}: item {i} of column {column!r} ({key}) is {reprlib.repr(one)}; expected "
                "a text."
            )
        parts.append(part)
    return parts


def _list_in(text: str) -> list[Any] | None:
    """Return the list that a cell of a csv file holds, as JSON or as Python writes it."""
    for parse in (json.loads, ast.literal_eval) if text.lstrip().startswith("[") else ():
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = parse(text)
            return found if isinstance(found, list) else None
    return None


def _spans(given: Any, text: str, where: str) -> tuple[Entity, ...]:
    """Read entities: objects, or lists of start, end and label, without the blanks around them."""
    spans = _list_in(given) if isinstance(given, str) else given
    if not isinstance(spans, list):
        raise DataError(f"{where}: found {reprlib.repr(given)}; expected a list, {_EXAMPLE}.")
    found = sorted(_span(one, text, where) for one in spans)
    for one, other in pairwise(found):
        if other.start < one.end:
            both = f"{_told(one, text)} and {_told(other, text)}"
            raise DataError(f"{where}: {both} overlap; expected entities beside each other.")
    return tuple(found)


def _span(given: Any, text: str, where: str) -> Entity:
    if isinstance(given, list | tuple) and len(given) == 3:
        given = dict(zip(("start", "end", "label"), given, strict=True))
    found = reprlib.repr(given)
    if not isinstance(given, Mapping) or not {"start", "end", "label"} <= given.keys():
        raise DataError(
            f"{where}: an entity is {found}; expected start, end and label, {_EXAMPLE}."
        )
    start, end, label = given["start"], given["end"], label_name(given["label"])
    if not label:
        raise DataError(f"{where}: the label of {found} is empty; expected a name.")
    if any(not isinstance(place, int) or isinstance(place, bool) for place in (start, end)):
        raise DataError(
            f"{where}: start or end of {found} is no whole number; expected characters."
        )
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"{where}: {found} is not within the text, which has {len(text)} characters; expected "
            "start from 0 on, and the end after the entity's last character."
        )
    part = text[start:end]
    if isinstance(given.get("text"), str) and given["text"].strip() != part.strip():
        raise DataError(
            f"{where}: {found} says {given['text']!r}; at these characters the text has {part!r}."
        )
    if is_blank(part):
        raise DataError(f"{where}: {found} is whitespace only; expected words.")
    return Entity(
        start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip()), label
    )


def _told(entity: Entity, text: str) -> str:
    part = reprlib.repr(text[entity.start : entity.end])
    return f"{part} ({entity.label}, {entity.start} to {entity.end})"
