"""Preferences: a conversation and two replies, of which people or a model prefer one.

The layouts are those of TRL, of OpenAI's preference files and of LLaMA-Factory.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.common.errors import DataError, at, listing, quoted
from pipeline.data.conversations import (
    Conversation,
    Message,
    Placed,
    Role,
    checked,
    plain,
)
from pipeline.data.layouts import (
    AUTO,
    LAYOUTS,
    check_keys,
    messages_of,
    nearest_key,
    sharegpt_of,
)
from pipeline.data.record_parts import (
    REFUSED_IN_RECORDS,
    list_at,
    object_at,
    refuse_keys,
    text_at,
)
from pipeline.data.rows import Values
from pipeline.data.values import check_whole, is_blank

_SIDES = ("chosen", "rejected")
_REFUSED = {key: why for key, why in REFUSED_IN_RECORDS.items() if key not in _SIDES}


class Preference(NamedTuple):
    """A conversation that ends with the user, and two replies to it."""

    asked: Conversation
    chosen: str
    rejected: str


@dataclass(frozen=True)
class PairLayout:
    """A way to write preferences as records."""

    name: str
    keys: tuple[str, ...]  # a record has all of them
    parts: Callable[[Values], tuple[Sequence[Placed], Placed, Placed]]
    fields: Callable[[Preference], dict[str, Any]]
    optional: tuple[str, ...] = ()

    def fits(self, values: Values) -> bool:
        """Whether a record has the keys."""
        return all(key in values for key in self.keys)

    def read(self, values: Values) -> Preference:
        """Return a record's preference.

        Raises:
            DataError: without the place, if the record is not of this layout.
        """
        check_keys(values, self.name, self.keys, self.optional)
        refuse_keys(values, _REFUSED)
        placed, *replies = self.parts(values)
        if placed and placed[-1][1].role == "assistant":
            raise DataError(
                f"{placed[-1][0]} is from the assistant, and so are the replies; expected the last "
                "message before them from the user."
            )
        for where, reply in replies:
            check_whole(reply.content, where)
            if reply.role != "assistant" or is_blank(reply.content):
                raise DataError(
                    f"{where} is {reprlib.repr(reply.content)} from the {reply.role}; expected a "
                    "reply of the assistant."
                )
        chosen, rejected = (reply.content for _, reply in replies)
        return Preference(checked(placed, to_answer=True), chosen, rejected)

    def write(self, preference: Preference) -> dict[str, Any]:
        """Return a record of a preference."""
        return self.fields(preference)

    def left_out(self, values: Values) -> list[str]:
        """Return the keys of a record that are not part of the preference."""
        known = (*self.keys, *self.optional)
        return [key for key, value in values.items() if value is not None and key not in known]


def read_preference(values: Values, layout: str, place: str) -> Preference:
    """Return a record's preference by a layout's name, or AUTO: recognized by its keys.

    Raises:
        DataError: naming the place, what was found there and what was expected.
    """
    with at(place):
        name = detect_pair(values) if layout == AUTO else layout
        return PAIR_LAYOUTS[name].read(values)


def detect_pair(values: Values) -> str:
    """Return the name of the first layout that has a record's keys.

    Raises:
        DataError: without the place, naming the keys found and those of the layouts.
    """
    for name, layout in PAIR_LAYOUTS.items():
        if layout.fits(values):
            return name
    near = nearest_key(values, {key for layout in PAIR_LAYOUTS.values() for key in layout.keys})
    if any(values.keys() >= set(layout.keys) for layout in LAYOUTS.values()):
        near = " Conversations with one reply are read by task=chat."
    expected = [f"{name} ({', '.join(layout.keys)})" for name, layout in PAIR_LAYOUTS.items()]
    raise DataError(
        f"found the keys {quoted(values)}; expected those of a layout of preferences: "
        f"{listing(expected)}.{near}"
    )


def _reply(value: object, where: str) -> Placed:
    """Return the one message of a side: a text, a message, or a list of one."""
    if isinstance(value, list):
        if len(value) != 1:
            raise DataError(f"{where} has {len(value)} messages; expected one reply.")
        ((_, message),) = messages_of(value, where)
        return where, message
    if isinstance(value, Mapping):
        return where, next(messages_of([value], where))[1]
    return where, Message("assistant", text_at(value, where))


def _read_pairs(values: Values) -> tuple[Sequence[Placed], Placed, Placed]:
    prompt, given = values.get("prompt"), [values[side] for side in _SIDES]
    are_whole = all(isinstance(of, list) and len(of) > 1 for of in given)
    if prompt is not None and not (isinstance(prompt, str) and are_whole):
        chosen, rejected = (_reply(values[side], side) for side in _SIDES)
        return _prompt(prompt), chosen, rejected
    if not all(isinstance(of, list) for of in given):
        raise DataError(
            "there is no prompt, and chosen and rejected are no lists of messages; expected the "
            "key prompt, or whole conversations."
        )
    # Both sides are whole conversations, which begin alike.
    whole = [list(messages_of(of, side)) for side, of in zip(_SIDES, given, strict=True)]
    for side, of in zip(_SIDES, whole, strict=True):
        if len(of) < 2:
            raise DataError(
                f"there is no prompt, and {side} has {len(of)} messages; expected whole "
                "conversations, or the key prompt."
            )
    (*first, chosen), (*second, rejected) = whole
    if isinstance(prompt, str) and prompt not in [message.content for _, message in first]:
        raise DataError(
            "prompt is no message of chosen, which is a whole conversation; expected one of it, or "
            "one reply."
        )
    if [message for _, message in first] != [message for _, message in second]:
        raise DataError(
            "chosen and rejected are whole conversations, and differ before their last message; "
            "expected the same one."
        )
    return first, chosen, rejected


def _prompt(given: object) -> list[Placed]:
    if isinstance(given, list):
        return list(messages_of(given, "prompt"))
    return [("prompt", Message("user", text_at(given, "prompt")))]


def _write_pairs(preference: Preference) -> dict[str, Any]:
    if len(preference.asked) == 1:
        (message,) = preference.asked
        return {
            "prompt": message.content,
            "chosen": preference.chosen,
            "rejected": preference.rejected,
        }
    return {
        "prompt": plain(preference.asked),
        "chosen": _assistant(preference.chosen),
        "rejected": _assistant(preference.rejected),
    }


def _assistant(text: str) -> list[dict[str, Any]]:
    return plain([Message("assistant", text)])


def _read_openai(values: Values) -> tuple[Sequence[Placed], Placed, Placed]:
    given = object_at(values["input"], "input", ["messages"], ["tools", "parallel_tool_calls"])
    sides = ("preferred_output", "non_preferred_output")
    chosen, rejected = (_reply(list_at(values[side], side), side) for side in sides)
    return list(messages_of(given["messages"], "input.messages")), chosen, rejected


def _write_openai(preference: Preference) -> dict[str, Any]:
    return {
        "input": {"messages": plain(preference.asked)},
        "preferred_output": _assistant(preference.chosen),
        "non_preferred_output": _assistant(preference.rejected),
    }


def _read_sharegpt(values: Values) -> tuple[Sequence[Placed], Placed, Placed]:
    def reply(side: str) -> Placed:
        one = list_at(values[side], side) if isinstance(values[side], list) else [values[side]]
        if len(one) != 1:
            raise DataError(f"{side} has {len(one)} messages; expected one reply.")
        return side, next(iter(sharegpt_of({"conversations": one}, side)))[1]

    return list(sharegpt_of(values, "conversations")), reply("chosen"), reply("rejected")


def _write_sharegpt(preference: Preference) -> dict[str, Any]:
    names: Mapping[Role, str] = {"system": "system", "user": "human", "assistant": "gpt"}

    def written(messages: Sequence[Message]) -> Iterator[dict[str, str]]:
        return ({"from": names[m.role], "value": m.content} for m in messages)

    return {
        "conversations": list(written(preference.asked)),
        "chosen": next(written([Message("assistant", preference.chosen)])),
        "rejected": next(written([Message("assistant", preference.rejected)])),
    }


PAIR_LAYOUTS: Mapping[str, PairLayout] = {
    layout.name: layout
    for layout in (
        PairLayout(
            "preference_openai",
            ("input", "preferred_output", "non_preferred_output"),
            _read_openai,
            _write_openai,
        ),
        PairLayout(
            "preference_sharegpt",
            ("conversations", "chosen", "rejected"),
            _read_sharegpt,
            _write_sharegpt,
            optional=("system",),
        ),
        PairLayout(
            "preference",
            ("chosen", "rejected"),
            _read_pairs,
            _write_pairs,
            optional=("prompt",),
        ),
    )
}
