"""Text that somebody else wrote, as it may be shown; and sets of words."""

import re

# What moves a terminal's cursor or turns its text around, and halves of characters.
CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return a text as it may be printed: a terminal must not take its signs for commands."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: object) -> None:
    """Print a text that may quote somebody: its lines as they may be printed."""
    print(printable_lines(str(text)))


def printable_lines(text: str) -> str:
    """Return a text whose lines may be printed."""
    return "\n".join(map(printable, text.split("\n")))


def cut(given: object, most: int = 200) -> str:
    """Return what somebody wrote as a message quotes it: printable, its beginning if it is long."""
    text = str(given)
    more = f"… ({len(text):,} characters)" if len(text) > most else ""
    return printable(text[:most]) + more


def words(text: str) -> frozenset[str]:
    """Return the words between a text's blanks: a long set of names, as it is best read."""
    return frozenset(text.split())
