"""Secrets stay out of what is written: records, files, logs and messages.

A secret is what a key named like one holds (``…password``, ``…token``, ``api_key`` …), a password
or such an option in a URL, and what looks like an access token of the hub.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"  # stands for a secret

_NAME = r"\w*(?:pass|passwd|password|passphrase|pwd|secret|token|api_?key|access_?key|credentials?)"
_NO_SECRETS = re.compile(r"(?:pad|eos|bos|unk|sep|cls|mask)_token", re.IGNORECASE)
_SECRET_KEY = re.compile(_NAME, re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(:/{1,2}[^:/@\s]*:)[^@/\s]*@")
_URL_OPTION = re.compile(rf"([?&]{_NAME}=)[^&#\s'\"]*", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
_SETTING = re.compile(rf"((?<!\w)({_NAME})['\"]?[=:])(?![\s/])[^\s,}}&]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Return a text without the secrets in its URLs, and without access tokens."""
    text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
    text = _URL_OPTION.sub(rf"\1{MASK}", text)
    return _HUB_TOKEN.sub(MASK, text)


def masked_message(text: str) -> str:
    """Return a message for a log or a terminal without its secrets: settings in it as well."""
    return _SETTING.sub(lambda m: m[0] if _is_plain(m[2]) else f"{m[1]}{MASK}", masked(text))


def masked_override(override: str) -> str:
    """Return an override without its secrets: what a key named like one sets, and those in URLs."""
    key, sign, value = masked(override).partition("=")
    return f"{key}{sign}{masked_message(str(masked_value(key, value)))}"


def masked_value(key: str, value: Any) -> Any:
    """Return the value of a dotted key, or what stands for it; trees are gone through."""
    if isinstance(value, Mapping):
        return {name: masked_value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked_override(v) if isinstance(v, str) else masked_value(key, v) for v in value]
    if not isinstance(value, str):
        return value
    name = key.rpartition(".")[2]
    is_secret = value and _SECRET_KEY.fullmatch(name) and not _is_plain(name)
    return MASK if is_secret else masked(value)


def _is_plain(name: str) -> bool:
    return _NO_SECRETS.fullmatch(name) is not None


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
