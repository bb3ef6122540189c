"""How a text file is written, where its suffix and its first bytes do not say it."""

from typing import NamedTuple

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
QUOTING = ("minimal", "none")


class TextFormat(NamedTuple):
    """What a user may say of text files: the keys of ``data``, and options of verbs."""

    encoding: str = "utf-8"
    delimiter: str | None = None  # a name of `DELIMITERS`, or one character; None: the suffix's
    quoting: str = "minimal"  # none: a quote is a character like others, and a line is a row


PLAIN = TextFormat()


def check_delimiter(given: object) -> str:
    """Return a delimiter as `TextFormat` has it.

    Raises:
        ValueError: for anything else, with what was expected.
    """
    is_one = isinstance(given, str) and len(given) == 1 and given not in '"\r\n'
    if not is_one and given not in list(DELIMITERS):
        raise ValueError(f"should be {', '.join(DELIMITERS)} or one character")
    return str(given)


def key_of(option: str, value: str) -> str:
    """Return how to set one of these, for messages: a key of the config, or a verb's option."""
    if value.replace("-", "").isalnum():
        return f"data.{option}={value} (convert, predict: --{option} {value})"
    return f"\"data.{option}='{value}'\" (convert, predict: --{option} '{value}')"
