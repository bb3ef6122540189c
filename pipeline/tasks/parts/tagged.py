"""The shape of tagged rows: words with a tag each, or a text with its entities."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import DataError, amount
from pipeline.config.task import AnyColumns
from pipeline.config.types import STRICT, Text
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import Shape, column_of, place_of, rarest, text_of
from pipeline.data.values import check_whole, is_blank, label_name
from pipeline.tasks.parts.tags import OUTSIDE, Entity, SchemeName, read_tags

Words = tuple[tuple[int, int], ...]  # the characters of each word of a text

# Chinese and Japanese characters are words: they have no blanks between them.
_WIDE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER, _SIGN = rf"[^\W\d_{_WIDE}]", rf"[{_WIDE}]|\d+|[^\w\s]|_"
# Where entities are given as spans: letters, numbers and single signs, so that few begin in a word.
_FINE = re.compile(rf"{_LETTER}+|{_SIGN}")
# Where words are given: about as treebanks have them, with U.S., don't and two-thirds as words.
_COARSE = re.compile(
    rf"(?:{_LETTER}\.){{2,}}|(?:{_LETTER}|\d)+(?:[-.,'’&/](?:{_LETTER}|\d)+)*|{_SIGN}"
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
        are_given = self.columns.entities is None
        if are_given and (with_targets or self.columns.tokens in values):
            return self._tokens(values, place, with_targets=with_targets)
        text = text_of(values, "data.text", self.columns.text, place)
        words = _COARSE if are_given else _FINE
        row: Row = {"text": text, "words": tuple(m.span() for m in words.finditer(text))}
        if with_targets:
            column = self.columns.entities
            assert column is not None  # else words are given
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
        """Refuse rows without any entity; return how many begin or end within a word."""
        every = [(i, one) for i, of in enumerate(train["entities"]) for one in of]
        if not every:
            column = self.columns.entities or self.columns.tags
            key = "tags" if self.columns.entities is None else "entities"
            raise DataError(
                f"{place_of(train)}: no row has an entity; expected at least one (data.{key}="
                f"{column} names the column)."
            )
        bounds = [({a for a, _ in of}, {b for _, b in of}) for of in train["words"]]
        within = [
            (i, one)
            for i, one in every
            if one.start not in bounds[i][0] or one.end not in bounds[i][1]
        ]
        if not within:
            return []
        i, one = within[0]
        text = train["text"][i][one.start : one.end]
        return [
            f"{len(within)} of {len(every)} entities begin or end within a word, as {text!r} in "
            f"row {train.ids[i]}: words are learned whole, so these count as missed"
        ]

    def _tokens(self, values: Values, place: str, *, with_targets: bool) -> Row:
        words = _listed(values, "data.tokens", self.columns.tokens, place)
        tags: list[str] = []
        if with_targets:
            tags = _listed(values, "data.tags", self.columns.tags, place)
            if len(tags) != len(words):
                raise DataError(
                    f"{place}: {amount(len(words), 'word')} in column {self.columns.tokens!r} and "
                    f"{amount(len(tags), 'tag')} in column {self.columns.tags!r}; expected as many."
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
            row["entities"] = of_text(read_tags(tags, self.scheme, place), places)
        return row


def of_text(entities: Sequence[Entity], words: Words) -> tuple[Entity, ...]:
    """Return entities of words as those of the text."""
    return tuple(Entity(words[a][0], words[b - 1][1], label) for a, b, label in entities)


def of_words(entities: Sequence[Entity], words: Words) -> list[Entity]:
    """Return entities of a text as those of the words that they overlap; some overlap none."""
    found: list[Entity] = []
    for start, end, label in entities:
        touched = [i for i, (a, b) in enumerate(words) if a < end and b > start]
        first = max(touched[0], found[-1].end if found else 0) if touched else 0
        if touched and first <= touched[-1]:  # two entities may share a word: it is the first one's
            found.append(Entity(first, touched[-1] + 1, label))
    return found


def _listed(values: Values, key: str, column: str, place: str) -> list[str]:
    """Return the words of a cell: a list, one as JSON, or a text with blanks between them."""
    given = column_of(values, key, column, place)
    if isinstance(given, str):
        given = _json_of(given) if given.lstrip().startswith("[") else given.split()
    if not isinstance(given, list):
        raise DataError(
            f"{place}: found {given!r} in column {column!r} ({key}); expected a list, or a text "
            "with blanks between its parts."
        )
    for i, one in enumerate(given, start=1):
        if not isinstance(one, str | int | float) or isinstance(one, bool):
            raise DataError(
                f"{place}: found {one!r} at {i} in column {column!r} ({key}), expected a text."
            )
    return [one if isinstance(one, str) else label_name(one) for one in given]


def _json_of(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return text.split()


def _spans(given: Any, text: str, where: str) -> tuple[Entity, ...]:
    """Read entities: objects, or lists of start, end and label, without the blanks around them."""
    given = _json_of(given) if isinstance(given, str) else given
    if not isinstance(given, list):
        raise DataError(
            f'{where}: found {given!r}; expected [{{"start": 0, "end": 4, "label": …}}].'
        )
    found = sorted(_span(one, text, where) for one in given)
    for one, other in pairwise(found):
        if other.start < one.end:
            both = f"{_told(one, text)} and {_told(other, text)}"
            raise DataError(f"{where}: {both} overlap; expected entities beside each other.")
    return tuple(found)


def _span(given: Any, text: str, where: str) -> Entity:
    parts = (
        [given.get(k) for k in ("start", "end", "label")] if isinstance(given, Mapping) else given
    )
    if not isinstance(parts, list | tuple) or len(parts) != 3:
        raise DataError(f"{where}: found {given!r}; expected start, end and label of an entity.")
    start, end, label = parts[0], parts[1], label_name(parts[2])
    are_places = all(isinstance(n, int) and not isinstance(n, bool) for n in (start, end))
    if not label or not are_places or not 0 <= start < end <= len(text):
        raise DataError(
            f"{where}: found {given!r}; expected a label, and characters from 0 to {len(text)}, "
            "the end after the start."
        )
    part = text[start:end]
    if is_blank(part):
        raise DataError(f"{where}: {given!r} is of blanks alone; expected words.")
    return Entity(
        start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip()), label
    )


def _told(entity: Entity, text: str) -> str:
    return f"{text[entity.start : entity.end]!r} ({entity.label}, {entity.start} to {entity.end})"
