"""Conversations, the rows of a language model: what is one, and what not every layout can hold."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias

from pipeline.common.errors import DataError
from pipeline.data.values import check_whole, is_blank

Role: TypeAlias = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One message; ``trained`` matters for an assistant's only (OpenAI's ``weight: 0``)."""

    role: Role
    content: str
    trained: bool = True


Conversation: TypeAlias = tuple[Message, ...]
Placed: TypeAlias = tuple[str, Message]  # where in its record it stands, as messages[2]


class Feature(StrEnum):
    """What not every layout can represent, by its name in error messages."""

    SYSTEM = "a system message"
    EMPTY_SYSTEM = "an empty system message"
    TURNS = "several turns"
    ORDER = "turns that do not alternate from the user on"
    WEIGHT = "an assistant message with weight 0"


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as OpenAI writes them, without weights."""
    return [{"role": message.role, "content": message.content} for message in messages]


def asked(conversation: Conversation) -> Conversation:
    """Return what precedes the last reply, whether it is present or to be predicted."""
    return conversation[:-1] if conversation[-1].role == "assistant" else conversation


def checked(placed: Sequence[Placed], *, to_answer: bool) -> Conversation:
    """Return the messages of a record; without the last answer if that is to be predicted.

    Raises:
        DataError: naming the place in the record, if they are not a conversation.
    """
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
        elif is_blank(message.content):
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


def features_of(conversation: Conversation) -> Iterator[Feature]:
    """Yield what a conversation has that not every layout can represent."""
    first = conversation[0]
    if first.role == "system":
        yield Feature.SYSTEM if first.content else Feature.EMPTY_SYSTEM
    turns = turns_of(conversation)
    if len(turns) > 2:
        yield Feature.TURNS
    if any(message.role != ("user", "assistant")[i % 2] for i, message in enumerate(turns)):
        yield Feature.ORDER
    if not all(message.trained for message in conversation):
        yield Feature.WEIGHT


def system_of(conversation: Conversation) -> str | None:
    """Return the text of the system message; None: there is none."""
    return conversation[0].content if conversation[0].role == "system" else None


def turns_of(conversation: Conversation) -> Conversation:
    """Return what follows the system message."""
    return conversation[1:] if conversation[0].role == "system" else conversation
