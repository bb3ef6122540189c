"""Parts of a conversation's record: each is read, or refused by its place in the record."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.common.errors import DataError, did_you_mean, listing
from pipeline.data.conversations import Role
from pipeline.data.rows import Values
from pipeline.data.values import as_text

_NO_TOOLS = "tool calls are not supported"
_ONLY_TEXT = "only text is supported"

# By key, each with the reason.
REFUSED_IN_RECORDS = {
    **dict.fromkeys(("tools", "functions", "function_call"), _NO_TOOLS),
    **dict.fromkeys(("images", "videos", "audios"), _ONLY_TEXT),
    **dict.fromkeys(("chosen", "rejected"), "preference pairs are read by task=preference"),
    "kto_tag": "single rated replies are not supported",
}
_REFUSED_IN_MESSAGES = {
    **dict.fromkeys(("tools", "tool_calls", "tool_call_id", "name"), _NO_TOOLS),
    **dict.fromkeys(("functions", "function_call"), _NO_TOOLS),
    **dict.fromkeys(("functionCall", "functionResponse"), _NO_TOOLS),  # Vertex AI's
    **dict.fromkeys(("image_url", "input_audio", "audio", "file"), _ONLY_TEXT),
    **dict.fromkeys(("fileData", "inlineData"), _ONLY_TEXT),
}
_TOOL_ROLES = ("tool", "function", "function_call", "observation")


def refuse_keys(values: Values, refused: Mapping[str, str], where: str = "") -> None:
    """Refuse a record or a message that has one of these keys."""
    for key, reason in refused.items():
        if values.get(key):  # an empty list of tools counts as none
            raise DataError(f"{where}{key}: {reason}.")


def object_at(
    value: object, where: str, keys: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Return an object of known keys without nulls: parquet gives every row every key."""
    if not isinstance(value, dict):
        raise DataError(f"{where} is {reprlib.repr(value)}; expected an object.")
    refuse_keys(value, _REFUSED_IN_MESSAGES, f"{where}.")
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


def list_at(value: object, where: str) -> Sequence[Any]:
    """Return a list."""
    if not isinstance(value, list):
        raise DataError(f"{where} is {reprlib.repr(value)}; expected a list.")
    return value


def text_at(value: object, where: str) -> str:
    """Return a text, or a number as its text."""
    text = as_text(value)
    if text is None:
        raise DataError(f"{where} is {reprlib.repr(value)}; expected a text.")
    return text


def joined_at(value: object, where: str, optional: Sequence[str] = ()) -> str:
    """Return the text of a list of parts."""
    texts = []
    for i, part in enumerate(list_at(value, where)):
        at = f"{where}[{i}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if "type" in optional and kind not in (None, "text"):
            raise DataError(f"{at}.type is {reprlib.repr(kind)}; expected text: {_ONLY_TEXT}.")
        texts.append(text_at(object_at(part, at, ["text"], optional)["text"], f"{at}.text"))
    return "".join(texts)


def role_at(
    value: object, where: str, names: Mapping[str, Role], aliases: Mapping[str, Role]
) -> Role:
    """Return the role that a name or an alias stands for; a refusal lists the names."""
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
