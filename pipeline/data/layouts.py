"""Layouts: the common ways to write a conversation as a record.

A layout that cannot represent part of a conversation refuses it by name; nothing is dropped.
"""

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any

from pipeline.common.errors import DataError, at, did_you_mean, listing, quoted, visible
from pipeline.data.conversations import (
    Conversation,
    Feature,
    Message,
    Placed,
    Role,
    checked,
    features_of,
    plain,
    system_of,
    turns_of,
)
from pipeline.data.record_parts import (
    REFUSED_IN_RECORDS,
    joined_at,
    list_at,
    object_at,
    refuse_keys,
    role_at,
    text_at,
)
from pipeline.data.rows import Values
from pipeline.data.values import is_blank, label_name

AUTO = "auto"  # instead of a layout's name


@dataclass(frozen=True)
class Layout:
    """A way to write conversations as records."""

    name: str
    keys: tuple[str, ...]  # a record has all of them
    placed: Callable[[Values], Iterator[Placed]]
    fields: Callable[[Conversation], dict[str, Any]] | None  # None: it is read-only
    optional: tuple[str, ...] = ()
    carries: frozenset[Feature] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)  # refused keys, each with the reason
    answer: str | None = None  # key of the last answer, if it has its own

    def needed(self, *, to_answer: bool) -> tuple[str, ...]:
        """Return the keys that a record must have."""
        return tuple(key for key in self.keys if not (to_answer and key == self.answer))

    def read(self, values: Values, *, to_answer: bool = False) -> Conversation:
        """Return a record's conversation; without its last answer if that is to be predicted.

        Raises:
            DataError: without the place, if the record is not of this layout or its messages are
                not a conversation.
        """
        check_keys(values, self.name, self.needed(to_answer=to_answer), self.optional)
        refuse_keys(values, self.refused)
        if to_answer:
            values = {key: value for key, value in values.items() if key != self.answer}
        return checked(list(self.placed(values)), to_answer=to_answer)

    def write(self, conversation: Conversation) -> dict[str, Any]:
        """Return a record of a conversation that was read.

        Raises:
            DataError: without the place, if this layout cannot represent all of it.
        """
        if self.fields is None:
            raise DataError(f"{self.name} is read-only.")
        for feature in features_of(conversation):
            if feature not in self.carries:
                others = [one.name for one in LAYOUTS.values() if feature in one.carries]
                raise DataError(f"{self.name} cannot represent {feature}; {listing(others)} can.")
        return self.fields(conversation)

    def left_out(self, values: Values) -> list[str]:
        """Return the keys of a record that are not part of the conversation."""
        known = (*self.keys, *self.optional)
        return [key for key, value in values.items() if value is not None and key not in known]


def check_keys(values: Values, name: str, needed: Sequence[str], optional: Sequence[str]) -> None:
    """Refuse a record that lacks a key of a layout, or has one that is nearly one.

    Raises:
        DataError: without the place.
    """
    for key in needed:
        if key not in values:
            raise DataError(
                f"there is no {key!r}, which {name} needs; found {quoted(values)}."
                f"{did_you_mean(key, values)}"
            )
    absent = [key for key in optional if key not in values]
    for key, value in values.items():
        if value is None or key in needed or key in optional:
            continue
        if near := get_close_matches(key, absent, n=1, cutoff=0.8):  # not merely an extra column
            raise DataError(f"{key!r} is not a key of {name}. Did you mean {visible(near[0])}?")


def nearest_key(values: Values, known: Iterable[str]) -> str:
    """Return a hint to the key of a layout that a record misspells; or nothing."""
    lacking = sorted(set(known) - values.keys())
    return next(filter(None, (did_you_mean(k, lacking) for k in values if k not in known)), "")


def read_conversation(
    values: Values, layout: str, place: str, *, to_answer: bool = False
) -> Conversation:
    """Return a record's conversation by a layout's name, or AUTO: recognized by its keys.

    Without its last answer if that is to be predicted.

    Raises:
        DataError: naming the place, what was found there and what was expected.
    """
    with at(place):
        name = detect(values, to_answer=to_answer) if layout == AUTO else layout
        return LAYOUTS[name].read(values, to_answer=to_answer)


def detect(
    values: Values, layouts: Mapping[str, Layout] | None = None, *, to_answer: bool = False
) -> str:
    """Return the name of the first layout, by default of LAYOUTS, that has a record's keys.

    The last answer may be missing if it is to be predicted.

    Raises:
        DataError: without the place, naming the keys found and those of the layouts.
    """
    candidates = LAYOUTS if layouts is None else layouts
    for answerless in (False, True) if to_answer else (False,):
        for name, layout in candidates.items():
            if all(key in values for key in layout.needed(to_answer=answerless)):
                return name
    near = nearest_key(values, {key for layout in candidates.values() for key in layout.keys})
    if "rejected" in values or "preferred_output" in values:
        near = " Preference pairs are read by task=preference."
    expected = [f"{name} ({', '.join(layout.keys)})" for name, layout in candidates.items()]
    raise DataError(
        f"found the keys {quoted(values)}; expected those of a layout: {listing(expected)}.{near}"
    )


def layouts_with(source: str | None, target: str | None) -> dict[str, Layout]:
    """Return LAYOUTS with the given names of the two columns, if any."""
    renamed = {
        name: _columns(name, source or own[0], target or own[1]) for name, own in COLUMNS.items()
    }
    return {**LAYOUTS, **renamed}


_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def messages_of(value: object, where: str, optional: Sequence[str] = ()) -> Iterator[Placed]:
    """Yield the messages of a list as OpenAI writes them, each with its place."""
    for i, item in enumerate(list_at(value, where)):
        at = f"{where}[{i}]"
        given = object_at(item, at, ("role", "content"), optional)
        role = role_at(given["role"], f"{at}.role", _ROLES, {"developer": "system"})
        content, of = given["content"], f"{at}.content"
        is_text = not isinstance(content, list)
        text = text_at(content, of) if is_text else joined_at(content, of, ["type"])
        yield at, Message(role, text, _is_trained(given.get("weight"), role, at))


def _is_trained(weight: object, role: Role, where: str) -> bool:
    if weight is None:
        return True
    if role != "assistant":
        raise DataError(f"{where} has a weight; expected one only in an assistant's messages.")
    if isinstance(weight, bool) or weight not in (0, 1):
        raise DataError(f"{where}.weight is {reprlib.repr(weight)}; expected 0 or 1.")
    return weight == 1


def _read_messages(values: Values) -> Iterator[Placed]:
    return messages_of(values["messages"], "messages", ["weight"])


def _write_messages(conversation: Conversation) -> dict[str, Any]:
    weights: list[dict[str, Any]] = [{} if m.trained else {"weight": 0} for m in conversation]
    both = zip(plain(conversation), weights, strict=True)
    return {"messages": [{**one, **weight} for one, weight in both]}


def _read_contents(values: Values) -> Iterator[Placed]:
    instruction = values.get("systemInstruction")
    if instruction is not None:
        # Vertex AI ignores the role in it.
        given = object_at(instruction, "systemInstruction", ["parts"], ["role"])
        text = joined_at(given["parts"], "systemInstruction.parts")
        yield "systemInstruction", Message("system", text)
    names: Mapping[str, Role] = {"user": "user", "model": "assistant"}
    for i, item in enumerate(list_at(values["contents"], "contents")):
        at = f"contents[{i}]"
        given = object_at(item, at, ("role", "parts"))
        role = role_at(given["role"], f"{at}.role", names, {})
        yield at, Message(role, joined_at(given["parts"], f"{at}.parts"))


def _write_contents(conversation: Conversation) -> dict[str, Any]:
    names = {"user": "user", "assistant": "model"}
    system = system_of(conversation)
    head = {} if system is None else {"systemInstruction": _content("system", system)}
    contents = [_content(names[m.role], m.content) for m in turns_of(conversation)]
    return {**head, "contents": contents}


def _content(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def _system_in(values: Values) -> Iterator[Placed]:
    if values.get("system"):
        yield "system", Message("system", text_at(values["system"], "system"))


def sharegpt_of(values: Values, where: str = "conversations") -> Iterator[Placed]:
    """Yield the messages of a record as ShareGPT writes them, each with its place."""
    yield from _system_in(values)
    names: Mapping[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
    for i, item in enumerate(list_at(values["conversations"], where)):
        at = f"{where}[{i}]"
        given = object_at(item, at, ("from", "value"))
        role = role_at(given["from"], f"{at}.from", names, _ROLES)
        yield at, Message(role, text_at(given["value"], f"{at}.value"))


def _write_sharegpt(conversation: Conversation) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[m.role], "value": m.content} for m in conversation]}


def _read_alpaca(values: Values) -> Iterator[Placed]:
    yield from _system_in(values)
    for i, pair in enumerate(list_at(values.get("history") or [], "history")):
        at = f"history[{i}]"
        if len(list_at(pair, at)) != 2:
            raise DataError(f"{at} has {len(pair)} texts; expected a question and its answer.")
        yield f"{at}[0]", Message("user", text_at(pair[0], f"{at}[0]"))
        yield f"{at}[1]", Message("assistant", text_at(pair[1], f"{at}[1]"))
    asked = ((key, values.get(key)) for key in ("instruction", "input"))
    texts = [text_at(value, key) for key, value in asked if value not in (None, "")]
    yield "instruction", Message("user", "\n".join(texts))
    if "output" in values:
        yield "output", Message("assistant", text_at(values["output"], "output"))


def _write_alpaca(conversation: Conversation) -> dict[str, Any]:
    *earlier, asked, answer = (message.content for message in turns_of(conversation))
    system = system_of(conversation)
    return {
        "instruction": asked,
        "input": "",
        "output": answer,
        **({} if system is None else {"system": system}),
        **({"history": [earlier[i : i + 2] for i in range(0, len(earlier), 2)]} if earlier else {}),
    }


def _read_prompt_completion(values: Values) -> Iterator[Placed]:
    prompt = values["prompt"]
    if not isinstance(prompt, list):
        yield "prompt", Message("user", text_at(prompt, "prompt"))
        if "completion" in values:
            yield "completion", Message("assistant", text_at(values["completion"], "completion"))
        return
    yield from messages_of(prompt, "prompt")
    if "completion" in values:
        completion = list_at(values["completion"], "completion")
        if len(completion) != 1:
            raise DataError(f"completion has {len(completion)} messages; expected one.")
        yield from messages_of(completion, "completion")


def _write_prompt_completion(conversation: Conversation) -> dict[str, Any]:
    if len(conversation) == 2:
        return {"prompt": conversation[0].content, "completion": conversation[1].content}
    *prompt, completion = plain(conversation)
    return {"prompt": prompt, "completion": [completion]}


def _read_squad(values: Values) -> Iterator[Placed]:
    context, question = (text_at(values[key], key) for key in ("context", "question"))
    for key, text in (("context", context), ("question", question)):
        if is_blank(text):
            raise DataError(f"{key} is empty: found {text!r}, expected a letter.")
    yield "question", Message("user", f"{context}\n\n{question}")
    if "answers" in values:
        given = values["answers"]
        if isinstance(given, list):  # as in the official files
            each = [object_at(one, "answers", ["text"], ["answer_start"]) for one in given]
            given = {"text": [one["text"] for one in each]}
        answers = object_at(given, "answers", ["text"], ["answer_start"])
        texts = list_at(answers["text"], "answers.text")
        if not texts:
            raise DataError("answers.text is empty; expected at least one answer to train on.")
        yield "answers.text[0]", Message("assistant", text_at(texts[0], "answers.text[0]"))


def _columns(name: str, source: str, target: str) -> Layout:
    """Return a layout of one turn in two columns."""

    def placed(values: Values) -> Iterator[Placed]:
        yield source, Message("user", text_at(values[source], source))
        if target in values:
            answer = values[target]
            if name == "text_label" and not isinstance(answer, str):
                answer = label_name(answer) or answer
            yield target, Message("assistant", text_at(answer, target))

    def fields(conversation: Conversation) -> dict[str, Any]:
        return {source: conversation[0].content, target: conversation[1].content}

    return Layout(name, (source, target), placed, fields, answer=target)


COLUMNS = {"source_target": ("source", "target"), "text_label": ("text", "label")}

_ALL = frozenset(Feature)
_NO_WEIGHTS = _ALL - {Feature.WEIGHT}

_chats = partial(Layout, refused=REFUSED_IN_RECORDS)

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        _chats("messages", ("messages",), _read_messages, _write_messages, carries=_ALL),
        _chats(
            "contents",
            ("contents",),
            _read_contents,
            _write_contents,
            optional=("systemInstruction",),
            carries=_NO_WEIGHTS,
        ),
        _chats(
            "sharegpt",
            ("conversations",),
            sharegpt_of,
            _write_sharegpt,
            optional=("system",),
            carries=_NO_WEIGHTS,
        ),
        _chats(
            "alpaca",
            ("instruction", "output"),
            _read_alpaca,
            _write_alpaca,
            optional=("input", "system", "history"),
            carries=_NO_WEIGHTS - {Feature.EMPTY_SYSTEM, Feature.ORDER},
            answer="output",
        ),
        _chats(
            "prompt_completion",
            ("prompt", "completion"),
            _read_prompt_completion,
            _write_prompt_completion,
            carries=_NO_WEIGHTS,
            answer="completion",
        ),
        Layout("squad", ("context", "question", "answers"), _read_squad, None, answer="answers"),
        *(_columns(name, *columns) for name, columns in COLUMNS.items()),
    )
}
