"""Conversations, the rows of a language model, in each of the common layouts.

A layout that cannot represent part of a conversation refuses it by name; nothing is dropped.
"""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from pipeline.common.errors import DataError, at, did_you_mean, listing, quoted
from pipeline.data.rows import Values
from pipeline.data.values import as_text, label_name

Role: TypeAlias = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One message; ``trained`` matters for an assistant's only (OpenAI's ``weight: 0``)."""

    role: Role
    content: str
    trained: bool = True


Conversation: TypeAlias = tuple[Message, ...]
Placed: TypeAlias = tuple[str, Message]  # where in its record it stands, as messages[2]

AUTO = "auto"  # instead of a layout's name


class Feature(StrEnum):
    """What not every layout can represent, by its name in error messages."""

    SYSTEM = "a system message"
    EMPTY_SYSTEM = "an empty system message"
    TURNS = "several turns"
    ORDER = "turns that do not alternate from the user on"
    WEIGHT = "an assistant message with weight 0"


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
        for key in self.needed(to_answer=to_answer):
            if key not in values:
                raise DataError(
                    f"there is no {key!r}, which {self.name} needs; found {quoted(values)}."
                    f"{did_you_mean(key, values)}"
                )
        _refuse(values, self.refused)
        absent = [key for key in self.optional if key not in values]
        for key in self.left_out(values):
            near = get_close_matches(key, absent, n=1, cutoff=0.8)
            if near:  # not merely an extra column
                raise DataError(f"{key!r} is not a key of {self.name}. Did you mean {near[0]}?")
        if to_answer:
            values = {key: value for key, value in values.items() if key != self.answer}
        return _checked(list(self.placed(values)), to_answer=to_answer)

    def write(self, conversation: Conversation) -> dict[str, Any]:
        """Return a record of a conversation that was read.

        Raises:
            DataError: without the place, if this layout cannot represent all of it.
        """
        if self.fields is None:
            raise DataError(f"{self.name} is read-only.")
        for feature in _features(conversation):
            if feature not in self.carries:
                others = [one.name for one in LAYOUTS.values() if feature in one.carries]
                raise DataError(f"{self.name} cannot represent {feature}; {listing(others)} can.")
        return self.fields(conversation)

    def left_out(self, values: Values) -> list[str]:
        """Return the keys of a record that are not part of the conversation."""
        known = (*self.keys, *self.optional)
        return [key for key, value in values.items() if value is not None and key not in known]


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
    known = {key for layout in candidates.values() for key in layout.keys}
    near = next(filter(None, (did_you_mean(key, sorted(known)) for key in values)), "")
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


# What a conversation is.

# JSON can escape half of a pair on its own ("\ud83d"); such text has no UTF-8 for a tokenizer.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


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


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as OpenAI writes them, without weights."""
    return [{"role": message.role, "content": message.content} for message in messages]


def asked(conversation: Conversation) -> Conversation:
    """Return what precedes the last reply, whether it is present or to be predicted."""
    return conversation[:-1] if conversation[-1].role == "assistant" else conversation


def _checked(placed: Sequence[Placed], *, to_answer: bool) -> Conversation:
    if to_answer and placed and placed[-1][1].role == "assistant":
        placed = placed[:-1]
    conversation: list[Message] = []
    before, where = "", ""
    for where, message in placed:
        check_whole(message.content, where)
        if message.role == "system":
            if conversation:
                raise DataError(
                    f"{where} is a system message; expected one only as the first message."
                )
        elif message.role == before == "assistant":
            raise DataError(
                f"{where} is from the assistant, as is the message before; expected one message a "
                "turn: a reply follows a message from the user, or begins the conversation."
            )
        elif not message.content.strip():
            raise DataError(f"{where} is empty: found {message.content!r}, expected a letter.")
        before = message.role
        conversation.append(message)
    last, other = ("user", "assistant") if to_answer else ("assistant", "user")
    for role in (last, "user"):  # a greeting alone answers nothing
        if not any(message.role == role for message in conversation):
            raise DataError(f"there is no message from the {role}; expected at least one.")
    if conversation[-1].role != last:
        raise DataError(f"{where} is from the {other}; expected the last message from the {last}.")
    return tuple(conversation)


def _features(conversation: Conversation) -> Iterator[Feature]:
    """Yield what a conversation has that not every layout can represent."""
    first = conversation[0]
    if first.role == "system":
        yield Feature.SYSTEM if first.content else Feature.EMPTY_SYSTEM
    turns = _turns(conversation)
    if len(turns) > 2:
        yield Feature.TURNS
    if any(message.role != ("user", "assistant")[i % 2] for i, message in enumerate(turns)):
        yield Feature.ORDER
    if not all(message.trained for message in conversation):
        yield Feature.WEIGHT


def _system(conversation: Conversation) -> str | None:
    return conversation[0].content if conversation[0].role == "system" else None


def _turns(conversation: Conversation) -> Conversation:
    return conversation[1:] if conversation[0].role == "system" else conversation


# Parts of records that are refused, each with the reason.

_NO_TOOLS = "tool calls are not supported"
_ONLY_TEXT = "only text is supported"
_NO_PREFERENCES = "preference pairs are not supported"

_REFUSED_IN_RECORDS = {
    **dict.fromkeys(("tools", "functions", "function_call"), _NO_TOOLS),
    **dict.fromkeys(("images", "videos", "audios"), _ONLY_TEXT),
    **dict.fromkeys(("chosen", "rejected", "kto_tag"), _NO_PREFERENCES),
}
_REFUSED_IN_MESSAGES = {
    **dict.fromkeys(("tools", "tool_calls", "tool_call_id", "name"), _NO_TOOLS),
    **dict.fromkeys(("functions", "function_call"), _NO_TOOLS),
    **dict.fromkeys(("functionCall", "functionResponse"), _NO_TOOLS),
    **dict.fromkeys(("image_url", "input_audio", "audio", "file"), _ONLY_TEXT),
    **dict.fromkeys(("fileData", "inlineData"), _ONLY_TEXT),
}
_TOOL_ROLES = ("tool", "function", "function_call", "observation")


def _refuse(values: Values, refused: Mapping[str, str], where: str = "") -> None:
    for key, reason in refused.items():
        if values.get(key):  # an empty list of tools counts as none
            raise DataError(f"{where}{key}: {reason}.")


def _object(
    value: object, where: str, keys: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Return an object of known keys without nulls: parquet gives every row every key."""
    if not isinstance(value, dict):
        raise DataError(f"{where} is {reprlib.repr(value)}; expected an object.")
    _refuse(value, _REFUSED_IN_MESSAGES, f"{where}.")
    given = {
        key: v for key, v in value.items() if v is not None and key not in _REFUSED_IN_MESSAGES
    }
    known = (*keys, *optional)
    for key in given:
        if key not in known:
            raise DataError(
                f"{where} has the key {key!r}; expected {listing(known)}."
                f"{did_you_mean(key, [k for k in known if k not in given])}"
            )
    for key in keys:
        if key not in given:
            raise DataError(f"{where} has no {key}; expected {listing(keys)}.")
    return given


def _list(value: object, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where} is {reprlib.repr(value)}; expected a list.")
    return value


def _text(value: object, where: str) -> str:
    text = as_text(value)
    if text is None:
        raise DataError(f"{where} is {reprlib.repr(value)}; expected a text.")
    return text


def _joined(value: object, where: str, optional: Sequence[str] = ()) -> str:
    """Return the text of a list of parts."""
    texts = []
    for i, part in enumerate(_list(value, where)):
        at = f"{where}[{i}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if "type" in optional and kind not in (None, "text"):
            raise DataError(f"{at}.type is {reprlib.repr(kind)}; expected text: {_ONLY_TEXT}.")
        texts.append(_text(_object(part, at, ["text"], optional)["text"], f"{at}.text"))
    return "".join(texts)


def _role(
    value: object, where: str, names: Mapping[str, Role], aliases: Mapping[str, Role]
) -> Role:
    every = {**names, **aliases}
    if value in _TOOL_ROLES:
        raise DataError(f"{where} is {value!r}: {_NO_TOOLS}.")
    if not isinstance(value, str) or value not in every:
        *most, last = names
        near = did_you_mean(value, every) if isinstance(value, str) else ""
        raise DataError(
            f"{where} is {reprlib.repr(value)}; expected {', '.join(most)} or {last}.{near}"
        )
    return every[value]


# The layouts.

_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def _messages_of(value: object, where: str, optional: Sequence[str] = ()) -> Iterator[Placed]:
    for i, item in enumerate(_list(value, where)):
        at = f"{where}[{i}]"
        given = _object(item, at, ("role", "content"), optional)
        role = _role(given["role"], f"{at}.role", _ROLES, {"developer": "system"})
        content, of = given["content"], f"{at}.content"
        text = _joined(content, of, ["type"]) if isinstance(content, list) else _text(content, of)
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
    return _messages_of(values["messages"], "messages", ["weight"])


def _write_messages(conversation: Conversation) -> dict[str, Any]:
    weights: list[dict[str, Any]] = [{} if m.trained else {"weight": 0} for m in conversation]
    both = zip(plain(conversation), weights, strict=True)
    return {"messages": [{**one, **weight} for one, weight in both]}


def _read_contents(values: Values) -> Iterator[Placed]:
    instruction = values.get("systemInstruction")
    if instruction is not None:
        # Vertex AI ignores the role in it.
        given = _object(instruction, "systemInstruction", ["parts"], ["role"])
        text = _joined(given["parts"], "systemInstruction.parts")
        yield "systemInstruction", Message("system", text)
    names: Mapping[str, Role] = {"user": "user", "model": "assistant"}
    for i, item in enumerate(_list(values["contents"], "contents")):
        at = f"contents[{i}]"
        given = _object(item, at, ("role", "parts"))
        role = _role(given["role"], f"{at}.role", names, {})
        yield at, Message(role, _joined(given["parts"], f"{at}.parts"))


def _write_contents(conversation: Conversation) -> dict[str, Any]:
    names = {"user": "user", "assistant": "model"}
    system = _system(conversation)
    head = {} if system is None else {"systemInstruction": _content("system", system)}
    contents = [_content(names[m.role], m.content) for m in _turns(conversation)]
    return {**head, "contents": contents}


def _content(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def _read_sharegpt(values: Values) -> Iterator[Placed]:
    if values.get("system"):
        yield "system", Message("system", _text(values["system"], "system"))
    names: Mapping[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
    for i, item in enumerate(_list(values["conversations"], "conversations")):
        at = f"conversations[{i}]"
        given = _object(item, at, ("from", "value"))
        role = _role(given["from"], f"{at}.from", names, _ROLES)
        yield at, Message(role, _text(given["value"], f"{at}.value"))


def _write_sharegpt(conversation: Conversation) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[m.role], "value": m.content} for m in conversation]}


def _read_alpaca(values: Values) -> Iterator[Placed]:
    if values.get("system"):
        yield "system", Message("system", _text(values["system"], "system"))
    for i, pair in enumerate(_list(values.get("history") or [], "history")):
        at = f"history[{i}]"
        if len(_list(pair, at)) != 2:
            raise DataError(f"{at} has {len(pair)} texts; expected a question and its answer.")
        yield f"{at}[0]", Message("user", _text(pair[0], f"{at}[0]"))
        yield f"{at}[1]", Message("assistant", _text(pair[1], f"{at}[1]"))
    asked = ((key, values.get(key)) for key in ("instruction", "input"))
    texts = [_text(value, key) for key, value in asked if value not in (None, "")]
    yield "instruction", Message("user", "\n".join(texts))
    if "output" in values:
        yield "output", Message("assistant", _text(values["output"], "output"))


def _write_alpaca(conversation: Conversation) -> dict[str, Any]:
    *earlier, asked, answer = (message.content for message in _turns(conversation))
    system = _system(conversation)
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
        yield "prompt", Message("user", _text(prompt, "prompt"))
        if "completion" in values:
            yield "completion", Message("assistant", _text(values["completion"], "completion"))
        return
    yield from _messages_of(prompt, "prompt")
    if "completion" in values:
        completion = _list(values["completion"], "completion")
        if len(completion) != 1:
            raise DataError(f"completion has {len(completion)} messages; expected one.")
        yield from _messages_of(completion, "completion")


def _write_prompt_completion(conversation: Conversation) -> dict[str, Any]:
    if len(conversation) == 2:
        return {"prompt": conversation[0].content, "completion": conversation[1].content}
    *prompt, completion = plain(conversation)
    return {"prompt": prompt, "completion": [completion]}


def _read_squad(values: Values) -> Iterator[Placed]:
    context, question = (_text(values[key], key) for key in ("context", "question"))
    for key, text in (("context", context), ("question", question)):
        if not text.strip():
            raise DataError(f"{key} is empty: found {text!r}, expected a letter.")
    yield "question", Message("user", f"{context}\n\n{question}")
    if "answers" in values:
        given = values["answers"]
        if isinstance(given, list):  # as in the official files
            each = [_object(one, "answers", ["text"], ["answer_start"]) for one in given]
            given = {"text": [one["text"] for one in each]}
        answers = _object(given, "answers", ["text"], ["answer_start"])
        texts = _list(answers["text"], "answers.text")
        if not texts:
            raise DataError("answers.text is empty; expected at least one answer to train on.")
        yield "answers.text[0]", Message("assistant", _text(texts[0], "answers.text[0]"))


def _columns(name: str, source: str, target: str) -> Layout:
    """Return a layout of one turn in two columns."""

    def placed(values: Values) -> Iterator[Placed]:
        yield source, Message("user", _text(values[source], source))
        if target in values:
            answer = values[target]
            if name == "text_label" and not isinstance(answer, str):
                answer = label_name(answer) or answer
            yield target, Message("assistant", _text(answer, target))

    def fields(conversation: Conversation) -> dict[str, Any]:
        return {source: conversation[0].content, target: conversation[1].content}

    return Layout(name, (source, target), placed, fields, answer=target)


COLUMNS = {"source_target": ("source", "target"), "text_label": ("text", "label")}

_ALL = frozenset(Feature)
_NO_WEIGHTS = _ALL - {Feature.WEIGHT}

_chats = partial(Layout, refused=_REFUSED_IN_RECORDS)

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
            _read_sharegpt,
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
