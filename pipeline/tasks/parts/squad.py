"""What question answering reads of a record: context, question and answers, as SQuAD has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import DataError
from pipeline.config.task import AnyColumns
from pipeline.config.types import STRICT, Text
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import Shape, column_of, place_of, text_of
from pipeline.data.values import as_text, is_blank

ANSWER, NO_ANSWER = "answer", "no answer"  # a question has either

Answers = tuple[tuple[str, int], ...]  # text, and its start in the context in characters


@checked(config=STRICT, frozen=True, kw_only=True)
class AnswerColumns(AnyColumns):
    """A text, a question about it, and the spans of the text that answer it."""

    context: Text
    question: Text
    answers: Text  # {"text": […], "answer_start": […]}; empty lists: no answer


@dataclass(frozen=True)
class QuestionAnswers(Shape):
    """Columns ``context``, ``question`` and ``answers``, as SQuAD has them."""

    columns: AnswerColumns

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return both texts and every answer with its place in the context."""
        context = text_of(values, "data.context", self.columns.context, place)
        question = text_of(values, "data.question", self.columns.question, place)
        row: Row = {"context": context, "question": question}
        if with_targets:
            column = self.columns.answers
            given = column_of(values, "data.answers", column, place)
            row["answers"] = _answers(given, context, column, place)
        return row

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep the questions about one context together."""
        return rows["context"]

    def texts(self, rows: Rows) -> Sequence[str]:
        """Return each question with its context."""
        return [f"{q}\n{c}" for q, c in zip(rows["question"], rows["context"], strict=True)]

    @property
    def inputs(self) -> Mapping[str, str]:
        """Context and question."""
        return {self.columns.context: "context", self.columns.question: "question"}

    def check(self, train: Rows) -> list[str]:
        """Refuse rows if none of them has an answer."""
        if not any(train["answers"]):
            raise DataError(
                f"{place_of(train)}: no row has an answer; expected at least one (data.answers "
                "names the column)."
            )
        return []

    def labels(self, rows: Rows) -> Sequence[Sequence[str]]:
        """Return whether there is an answer."""
        return [(ANSWER if answers else NO_ANSWER,) for answers in rows["answers"]]


def _answers(given: Any, context: str, column: str, place: str) -> Answers:
    """Read answers as SQuAD lists them, as texts, or as one text; an answer is in its context."""
    if isinstance(given, str):
        given = _json_of(given)
    texts, starts = _texts_and_starts(given)
    texts = [as_text(one) or "" for one in (texts if isinstance(texts, list) else [texts])]
    if any(map(is_blank, texts)):
        raise DataError(
            f"{place}: found the answers {given!r} in column {column!r}; expected "
            '{"text": ["…"], "answer_start": [0]}, with empty lists if there is no answer.'
        )
    starts = [None] * len(texts) if starts is None else starts
    starts = [starts] if isinstance(starts, int) else starts
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise DataError(
            f"{place}: column {column!r} has {len(texts)} answers, but answer_start is "
            f"{starts!r}; expected one start per answer, in characters from 0."
        )
    return tuple(
        (text, _start(text, start, context, place))
        for text, start in zip(texts, starts, strict=True)
    )


def _texts_and_starts(given: Any) -> tuple[Any, Any]:
    """Return the texts and their starts as given; the starts may be missing."""
    if isinstance(given, Mapping):
        return given.get("text"), given.get("answer_start")
    if isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given):
        starts = [one.get("answer_start") for one in given]  # as in the official files
        return [one.get("text") for one in given], starts
    return given, None


def _json_of(text: str) -> Any:
    """Parse a cell of a csv file: SQuAD's answers as JSON, or one answer."""
    if text.lstrip().startswith(("{", "[")):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return [] if is_blank(text) else text


def _start(text: str, start: Any, context: str, place: str) -> int:
    """Return where an answer starts; if that is not given, search for it."""
    is_place = isinstance(start, int) and not isinstance(start, bool) and start >= 0
    if is_place and context.startswith(text, start):
        return int(start)
    found = [match.start() for match in re.finditer(re.escape(text), context)]
    if start is None and found:
        return found[0]
    at = f" at character {start!r}" if start is not None else ""
    there = context[start : start + len(text)] if is_place else ""
    reads = f"there it reads {there!r}; " if there else ""
    near = min(found, key=lambda i: abs(i - start) if is_place else i, default=0)
    where = f"it is at character {near}" if found else "it is nowhere in it"
    quotes = " JSON strings need double quotes." if text.lstrip().startswith(("{", "[")) else ""
    raise DataError(
        f"{place}: the answer {text!r} is not in its context{at}: {reads}{where}. Expected a span "
        f"of the context.{quotes}"
    )
