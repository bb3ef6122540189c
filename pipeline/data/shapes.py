"""Shapes: what a task reads of a record, the columns that makes, and what a cut keeps together."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.common.errors import DataError, did_you_mean, listing
from pipeline.config.data import Columns
from pipeline.data.conversations import (
    AUTO,
    LAYOUTS,
    asked,
    check_whole,
    plain,
    read_conversation,
)
from pipeline.data.rows import Rows

ANSWER, NO_ANSWER = "answer", "no answer"  # of a question there is the one or the other

Answers = tuple[tuple[str, int], ...]  # text and where it starts in its context, in characters


@dataclass(frozen=True)
class Shape(ABC):
    """What a task reads of a record; `config` names the columns."""

    config: Columns
    has_classes: ClassVar[bool] = False  # labels that training lacks cannot be predicted

    @abstractmethod
    def read(
        self, values: Mapping[str, Any], place: str, *, with_targets: bool = True
    ) -> dict[str, Any]:
        """Return a record as the values of a row, by column.

        Args:
            values: what the file holds.
            place: file and line, for messages.
            with_targets: False where the targets are what is asked for.

        Raises:
            DataError: naming place and column of what cannot be used.
        """

    @abstractmethod
    def groups(self, rows: Rows) -> Sequence[str]:
        """Return the text of each row that must not stand on both sides of a cut."""

    def texts(self, rows: Rows) -> Sequence[str]:
        """Return all that the model reads of each row; two rows with the same are copies."""
        return self.groups(rows)

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, str]:
        """The column of rows for each column of a file that prediction reads."""

    @abstractmethod
    def check(self, train: Rows) -> list[str]:
        """Return what is odd about training rows; before rows are cut off.

        Raises:
            DataError: for rows that cannot be learned from.
        """

    def record(self, rows: Rows, i: int) -> dict[str, Any]:
        """Return what prediction reads of a row, by the columns of a file."""
        return {column: rows[name][i] for column, name in self.inputs.items()}

    def labels(self, rows: Rows) -> Sequence[Sequence[str]]:
        """Return each row's labels."""
        return [()] * len(rows)

    @property
    def has_one_label(self) -> bool:
        """Whether each row has exactly one label, of a few."""
        return False

    def strata(self, rows: Rows) -> Sequence[str]:
        """Return the label of each row whose share cuts keep; the same where there are none."""
        return [""] * len(rows)


@dataclass(frozen=True)
class SourceTarget(Shape):
    """Columns ``source`` and ``target``: two texts."""

    def read(
        self, values: Mapping[str, Any], place: str, *, with_targets: bool = True
    ) -> dict[str, Any]:
        """Return both texts; neither may be empty."""
        row = {"source": text_of(values, "data.input", self.config.input, place)}
        if with_targets:
            row["target"] = text_of(values, "data.target", self.config.target, place)
        return row

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep equal sources together."""
        return rows["source"]

    @property
    def inputs(self) -> Mapping[str, str]:
        """The source."""
        return {self.config.input: "source"}

    def check(self, train: Rows) -> list[str]:
        """Warn of sources that are their own targets."""
        pairs = zip(train["source"], train["target"], strict=True)
        same = sum(source.strip() == target.strip() for source, target in pairs)
        if same < len(train):
            return []
        return [
            f"all {same} training rows have a source equal to its target: the model learns to copy "
            f"(data.input={self.config.input}, data.target={self.config.target})"
        ]


@dataclass(frozen=True)
class QuestionAnswers(Shape):
    """Columns ``context``, ``question`` and ``answers``, as SQuAD has them."""

    def read(
        self, values: Mapping[str, Any], place: str, *, with_targets: bool = True
    ) -> dict[str, Any]:
        """Return both texts and every answer with its place in the context."""
        context = text_of(values, "data.context", self.config.context, place)
        row: dict[str, Any] = {
            "context": context,
            "question": text_of(values, "data.question", self.config.question, place),
        }
        if with_targets:
            column = self.config.answers
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
        return {self.config.context: "context", self.config.question: "question"}

    def check(self, train: Rows) -> list[str]:
        """Refuse rows of which none has an answer."""
        if not any(train["answers"]):
            raise DataError(
                f"{place_of(train)}: no row has an answer; expected at least one (data.answers "
                "names the column)."
            )
        return []

    def labels(self, rows: Rows) -> Sequence[Sequence[str]]:
        """Return whether there is an answer."""
        return [(ANSWER if answers else NO_ANSWER,) for answers in rows["answers"]]


@dataclass(frozen=True)
class Chats(Shape):
    """Column ``messages``: a conversation, whatever the layout of the file."""

    def read(
        self, values: Mapping[str, Any], place: str, *, with_targets: bool = True
    ) -> dict[str, Any]:
        """Return the conversation; one that is to be answered ends with the user."""
        layout = self.config.layout
        if not with_targets and values.keys() == self.inputs.keys():
            layout = AUTO  # what a server is asked, whatever the layout of the training file
        if layout not in (AUTO, *LAYOUTS):
            valid = [AUTO, *LAYOUTS]
            raise DataError(
                f"data.layout={layout}: there is no such layout.{did_you_mean(layout, valid)} "
                f"Valid: {listing(valid)}."
            )
        return {"messages": read_conversation(values, layout, place, to_answer=not with_targets)}

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep conversations that begin alike together."""
        return [
            "\n".join(m.content for m in messages[: 1 + (messages[0].role == "system")])
            for messages in rows["messages"]
        ]

    def texts(self, rows: Rows) -> Sequence[str]:
        """Return each whole conversation."""
        return ["\n".join(m.content for m in messages) for messages in rows["messages"]]

    @property
    def inputs(self) -> Mapping[str, str]:
        """The messages."""
        return {"messages": "messages"}

    def record(self, rows: Rows, i: int) -> dict[str, Any]:
        """Return a conversation up to its last reply."""
        return {"messages": plain(asked(rows["messages"][i]))}

    def check(self, train: Rows) -> list[str]:
        """Warn of conversations of which nothing is learned."""
        idle = sum(
            not any(m.trained for m in messages if m.role == "assistant")
            for messages in train["messages"]
        )
        warning = f"{idle} conversations have weight 0 on every reply: they train nothing"
        return [warning] if idle else []


def column_of(values: Mapping[str, Any], key: str, column: str, place: str) -> Any:
    """Return a column's value; ``translation.de`` is key ``de`` of column ``translation``.

    Raises:
        DataError: where there is no such column.
    """
    here: Any = values
    for part in [column] if column in values else column.split("."):
        if not isinstance(here, Mapping) or part not in here:
            raise DataError(
                f"{place}: there is no column {column!r} ({key}); found "
                f"{listing(values)}.{did_you_mean(column, _names(values))}"
            )
        here = here[part]
    return here


def _names(values: Mapping[str, Any]) -> list[str]:
    """Return the columns, and the keys of those that have some."""
    nested = ((name, value) for name, value in values.items() if isinstance(value, Mapping))
    return [*values, *(f"{name}.{key}" for name, value in nested for key in value)]


def text_of(values: Mapping[str, Any], key: str, column: str, place: str) -> str:
    """Return the text in a column.

    Raises:
        DataError: where there is none, or no whole characters.
    """
    text = column_of(values, key, column, place)
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{place}: no text: found {text!r} in column {column!r}, expected at least one letter."
        )
    check_characters(text, column, place)
    return text


def check_characters(text: str, column: str, place: str) -> None:
    """Refuse halves of characters.

    Raises:
        DataError: naming the column.
    """
    check_whole(text, f"{place}: column {column!r}")


def place_of(rows: Rows) -> str:
    """Return the file that rows are from."""
    return rows.ids[0].rsplit(":", 1)[0]


def _answers(given: Any, context: str, column: str, place: str) -> Answers:
    """Read answers as SQuAD lists them, as texts, or as one text; an answer is in its context."""
    if isinstance(given, str):
        given = _json_of(given)
    texts, starts = _texts_and_starts(given)
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
        raise DataError(
            f"{place}: found the answers {given!r} in column {column!r}; expected "
            '{"text": ["…"], "answer_start": [0]}, with empty lists where there is no answer.'
        )
    starts = [None] * len(texts) if starts is None else starts
    starts = [starts] if isinstance(starts, int) else starts
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise DataError(
            f"{place}: the answers in column {column!r} are {len(texts)}, but answer_start is "
            f"{starts!r}; expected one start an answer, in characters from 0."
        )
    return tuple(
        (text, _start(text, start, context, place))
        for text, start in zip(texts, starts, strict=True)
    )


def _texts_and_starts(given: Any) -> tuple[Any, Any]:
    """Return what stands for the texts, and for where they start; the latter may be left out."""
    if isinstance(given, Mapping):
        return given.get("text"), given.get("answer_start")
    if isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given):
        starts = [one.get("answer_start") for one in given]  # as the official files have them
        return [one.get("text") for one in given], starts
    return given, None


def _json_of(text: str) -> Any:
    """Return what a cell of a csv file holds: SQuAD's answers as JSON, or one answer."""
    if not text.strip():
        return []
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _start(text: str, start: Any, context: str, place: str) -> int:
    """Return where an answer starts, which is looked for where it is not said."""
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
    where = f"it stands at character {near}" if found else "it is nowhere in it"
    quotes = " JSON's texts are in double quotes." if text.lstrip().startswith(("{", "[")) else ""
    raise DataError(
        f"{place}: the answer {text!r} is not in its context{at}: {reads}{where}. Expected a span "
        f"of the context.{quotes}"
    )
