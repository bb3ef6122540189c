"""Secrets stay out of what is written: records, files, logs and messages.

A secret is what a key named like one holds (``…password``, ``…token``, ``api_key`` …), a password,
a web token or such an option in a URL, and what has the shape of a known access token. Where it is
unclear how far a secret goes, more is masked. Every pattern takes a time linear in its text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pipeline.common.text import words
from pipeline.common.token_shapes import without_tokens

MASK = "***"  # stands for a secret

# A word begins anew at a capital too: `openaiApiKey`, `HFToken`. `bypass` and `compass` do not.
_LETTER = r"[^\W\d_]"
_BEGIN = rf"(?:(?<!{_LETTER})|(?-i:(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])))"
# Tokens of a language model or a listing: `pad_token`, `loss_per_token`, `page_token`.
_SPOKEN = words(
    "pad eos bos unk sep cls mask special additional extra image audio video prompt input output"
    " word sub new next prev previous first last start stop end max min num per each every"
)
_NOT_SPOKEN = "".join(
    rf"(?<!(?<!{_LETTER}){word}token)(?<!(?<!{_LETTER}){word}[_ .-]token)"
    for word in sorted(_SPOKEN)
)
_NAME = rf"""(?:
    (?:pass(?:word|wd|phrase|key)|secret|credential|api[_-]?key)s?  # however the key begins
    |{_BEGIN}(?:access|account|auth|encryption|private|secret|shared|signing|ssh)[_-]?keys?
    |{_BEGIN}(?:access|api|auth|hf|hub|refresh)[_-]?tokens?
    |{_BEGIN}token{_NOT_SPOKEN}
    |(?<!/){_BEGIN}(?:pass|pwd)  # `recall/pass` is a metric
    |{_BEGIN}authorization
    |{_BEGIN}x[_-](?:amz|goog)[_-]signature
)(?:[_-]?\d{{1,3}})?(?![\w-])"""
# Atomic groups, `(?>…)`: before Python 3.11.5 a group with a possessive quantifier, `(…)*+`, fails.
_FLAGS = re.IGNORECASE | re.VERBOSE | re.MULTILINE
_SECRET_KEY = re.compile(rf"{_NAME}(?=[.@\[]|\Z)", _FLAGS)  # or a key above it, in a dotted one
_PLAIN = r"(?:None|null|~|true|false|''|\"\"|(?-i:str|string|bytes|int|bool|Any))"
_PLAIN_VALUE = re.compile(rf"{_PLAIN}(?:\s*[|=]\s*{_PLAIN})*[,;)\]}}]*\s*|\s*", re.IGNORECASE)

_QUOTE_ENDS = r"""['"](?:[\s,;:)\]}>]|$)"""  # others may be part of a password
_URL = re.compile(
    rf""":(?<=[\w+.-][\w+.-]:)  # not of a drive, C:/
    (?P<web>(?<=http:)|(?<=https:))?/{{1,2}}(?!/)
    (?P<rest>(?>(?:(?!://|{_QUOTE_ENDS})\S)*))""",
    _FLAGS,
)
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*):\d{1,5}")
_URL_OPTION = re.compile(
    rf"""((?:[?&;\#][\w.-]{{0,60}}{_NAME}|[?&;]sig(?:nature)?|{_BEGIN}x-(?:amz|goog)-signature)=)
    (?:(?!{_QUOTE_ENDS})[^&\#\s])+""",
    _FLAGS,
)
# Name and password after such an option of any command, where a text has curl in it.
_CURL_USER = re.compile(
    rf"""((?<![\w-])(?:-[a-z]{{0,9}}u|--(?:proxy-)?user)(?:['"],)?[ =\\\n\t]{{0,9}}
    (?P<quote>['"])?(?!\d+:\d+\b)[^\s:'"]{{1,99}}:)
    (?:(?(quote)(?!(?P=quote))[^\n]|(?!{_QUOTE_ENDS})\S))+""",
    _FLAGS,
)

_KEY_ENDS = r"(?:\\{0,3}['\"])?\]?[ \t]*+"
_SIGN = r"(?:!=|=[=>]?|:=|:(?!/?/))"
# A key that a line begins with, in code, YAML, a diff: all of the line is its value.
_HEAD = rf"^(?P<mark>[+-])?(?P<indent>[ \t]*+)(?:-[ ]|export[ ])?['\"]?[\w.-]{{0,100}}{_NAME}"
_LINE = re.compile(
    rf"(?P<key>{_HEAD}{_KEY_ENDS}(?:{_SIGN}[ \t]++|(?<=[ \t]){_SIGN}))(?P<value>[^\s].*)", _FLAGS
)
# The same where the value is in the deeper lines below, of a diff or not.
_BLOCK = re.compile(
    rf"""(?P<key>{_HEAD}{_KEY_ENDS}{_SIGN})[ \t]*+(?:[|>][-+\d]*|[\[({{\\])?[ \t]*+$
    (?>(?:\n(?(mark)[+ -]|[+-]?)(?P=indent)(?:[ \t]+|-[ ])\S.*$)+)""",
    _FLAGS,
)
_STOPS = r"[\s,;:&\#@)\]}'\"]|$"
_SETTING = re.compile(
    rf"""(?P<key>{_NAME}{_KEY_ENDS}{_SIGN}[ \t]*+)
    (?P<value>
        {re.escape(MASK)}(?={_STOPS})
        |[\[({{].*
        |(?:(?:(?<=:)|(?<=:[ \t]))[\w.\[\]|][\w.\[\]|\ ]{{0,60}}=(?!=)[ \t]*+)?  # token: str = …
        (?:(?:[^\s,}}'"]{{1,80}}[:=]|Basic|Bearer)[ \t]++)*  # token: password: …
        (?:
            (?>(?:[bfru]{{0,2}}(?P<quote>\\{{0,3}}['"])
                (?>(?:(?!(?P=quote))(?:\\.|[^\n]))*)(?P=quote)?)+)
            (?:(?!{_STOPS}).)*
            |(?:[^\s,}}]|\}}(?=\w)|,(?=[^\s'"])(?![\w.-]{{1,64}}[:=]))+
        )
    )""",
    _FLAGS,
)


def masked(text: str) -> str:
    """Return a text without the secrets in its URLs, and without access tokens."""
    if ":/" in text:
        text = _URL.sub(_without_user, text)
    if "=" in text:
        text = _URL_OPTION.sub(rf"\1{MASK}", text)
    if "curl" in text:
        text = _CURL_USER.sub(rf"\1{MASK}", text)
    return without_tokens(text, MASK)


def masked_message(text: str) -> str:
    """Return a message for a log or a terminal without its secrets: settings in it as well."""
    text = masked(text)
    if ":" not in text and "=" not in text:
        return text
    text = _LINE.sub(_without_value, _BLOCK.sub(rf"\g<key> {MASK}", text))
    return _SETTING.sub(_without_value, text)


def masked_override(override: str) -> str:
    """Return an override without its secrets: what a key named like one sets, and those in URLs."""
    key, sign, value = override.partition("=")
    if _is_secret(key) and value.strip() != MASK and not _PLAIN_VALUE.fullmatch(value):
        return masked_message(f"{key}{sign}{MASK}")
    return masked_message(override)


def masked_value(key: str, value: Any) -> Any:
    """Return the value of a dotted key, or what stands for it; trees are gone through."""
    if _is_secret(key):
        return _all_masked(value)
    if isinstance(value, Mapping):
        return {name: masked_value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked_override(v) if isinstance(v, str) else masked_value("", v) for v in value]
    return masked(value) if isinstance(value, str) else value


def _all_masked(value: Any) -> Any:
    """Return a tree of the same form with nothing in it that could be a secret."""
    if isinstance(value, Mapping):
        return {name: _all_masked(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_all_masked(inner) for inner in value]
    return value if value is None or isinstance(value, bool) or value == "" else MASK


@lru_cache(maxsize=4096)  # the same keys in every trial
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _without_user(url: re.Match[str]) -> str:
    """Mask the password of a URL, and the only name in that of a website: it may be a token.

    A password may hold each of ``/?#@``, so it is taken to end at the last ``@`` of its URL. Only
    ``host:80/…`` of a website is a host and its port.
    """
    rest = url["rest"]
    if "@" not in rest:
        return url[0]
    start, is_web = url[0].removesuffix(rest), url["web"] is not None
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if ":" not in (user if at else authority):
        return f"{start}{MASK}{rest[len(user) :]}" if at and is_web else url[0]
    if not at and is_web and _HOST_AND_PORT.fullmatch(authority):
        return url[0]
    name, _, after = rest.partition(":")
    password, _, host = after.rpartition("@")
    if is_web and password in ("", "x-oauth-basic"):  # the name is a token
        return f"{start}{MASK}@{host}"
    return f"{start}{name}:{MASK}@{host}"


def _without_value(setting: re.Match[str]) -> str:
    return setting[0] if _PLAIN_VALUE.fullmatch(setting["value"]) else f"{setting['key']}{MASK}"


class Masking(logging.Filter):
    """Masks what goes through a log handler, tracebacks too."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the masked message in place of the record's own."""
        record.msg, record.args = masked_message(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = masked_message(record.exc_text)
        return True
