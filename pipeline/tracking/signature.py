"""A record's signature: this account has run this config, in this run.

Whoever can write to a store can forge a record, but not its signature: an HMAC with a key that only
the account can read. So what a signed config names was composed by the user, or allowed by them
before it first ran (`pipeline.config.untrusted`), and they need not allow it again:

- absolute paths, anywhere; relative ones only in the folder in which they were run, since
  ``../reviews.csv`` is another file elsewhere;
- not code: a folder or branch may hold another program by now.

A signature is of one run: on another's record it would have a shared run read private files.
"""

from __future__ import annotations

import errno
import hmac
import json
import logging
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.common.atomic import replacing
from pipeline.common.errors import ConfigError, TrackingError
from pipeline.common.private import make_folder
from pipeline.common.session import session
from pipeline.config.untrusted import read_json
from pipeline.training.outcome import RUN_LOGGER

log = logging.getLogger(RUN_LOGGER)

SIGNATURE_FILE = "signature.json"  # artifact next to the config
KEY_VARIABLE = "TUNEWRIGHT_KEY_FILE"  # environment variable: another place for the key
_KEY_BYTES = 32
_UNSIGNED = "records are not signed, so a rerun may ask for --allow: {}"


@dataclass(frozen=True)
class Vouched:
    """What a record's signature vouches for."""

    own: bool  # this account has run this config
    here: bool = False  # in this very folder
    reason: str = ""  # why it does not vouch for every path; nothing where none was given


def sign(run_id: str, config: str) -> dict[str, str]:
    """Return the artifact that signs a run's config; without a key none, and log a warning."""
    try:
        signed = _signatures(own_key(), run_id, config.encode())
    except ConfigError as error:
        text = _UNSIGNED.format(error)
        session().kept((sign, text), lambda: log.warning(text))
        return {}
    return {SIGNATURE_FILE: json.dumps(signed)}


def cannot_sign() -> list[str]:
    """Return what to say before a search whose records cannot be signed."""
    try:
        own_key()
    except ConfigError as error:
        return [_UNSIGNED.format(error)]
    return []


def verify(run_id: str, config: bytes, signature: bytes) -> Vouched:
    """Say whether this account signed a run's config; nothing is made."""
    if not signature:
        return Vouched(own=False)
    try:
        given = read_json(signature, SIGNATURE_FILE)
        path = _place()
        known = _signatures(_read(path), run_id, config) if path.exists() else {}
    except (ConfigError, TrackingError) as error:
        return Vouched(own=False, reason=f"Its signature cannot be checked: {error}")
    if not _has(given, known, "config"):
        return Vouched(
            own=False,
            reason="Its signature does not fit: the record was changed, or written by another "
            "account or machine.",
        )
    if not _has(given, known, "folder"):
        reason = "You ran it in another folder: its relative paths lead elsewhere from here."
        return Vouched(own=True, reason=reason)
    return Vouched(own=True, here=True)


def own_key() -> bytes:
    """Return the account's key, which is made the first time.

    Raises:
        ConfigError: where it can be neither read nor made, or others can read it.
    """
    path = _place()
    try:
        make_folder(path.parent)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                with replacing(path, durable=True) as made:
                    made.touch(0o600)
                    made.write_bytes(secrets.token_bytes(_KEY_BYTES))
    except (OSError, NotImplementedError) as error:  # a file system may have no locks
        if not path.exists():
            raise ConfigError(
                f"{path}: the key that signs your records cannot be made ({error}); "
                f"{KEY_VARIABLE}=… names another place."
            ) from error
    return _read(path)


def _place() -> Path:
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return Path(given)
    try:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError as error:
        raise ConfigError(
            f"there is no home folder for the key that signs your records; {KEY_VARIABLE}=… names "
            "another place."
        ) from error
    return Path(base, "tunewright", "record.key")


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise OSError(errno.EINVAL, "it is no file")
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            key = file.read(_KEY_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path}: the key that signs your records cannot be read ({error.strerror})."
        ) from error
    if os.name == "posix" and found.st_mode & 0o077:
        raise ConfigError(
            f"{path}: other accounts may use this key, which signs your records; its mode is "
            f"{stat.S_IMODE(found.st_mode):o}, expected 600. Delete it, and a new one is made."
        )
    if found.st_size != _KEY_BYTES:
        raise ConfigError(
            f"{path}: found {found.st_size:,} bytes, expected a key of {_KEY_BYTES}. Delete it, "
            "and a new one is made."
        )
    return key


def _signatures(key: bytes, run_id: str, config: bytes) -> dict[str, str]:
    """Return the signature of a config by itself, and of it and the working folder."""
    folder = os.path.realpath(Path.cwd())
    signed = {"config": [run_id], "folder": [run_id, folder]}
    return {
        name: hmac.digest(key, json.dumps([name, *words]).encode() + b"\n" + config, "sha256").hex()
        for name, words in signed.items()
    }


def _has(given: Any, known: Mapping[str, str], name: str) -> bool:
    one = given.get(name) if isinstance(given, dict) else None
    # Untrusted text: a lone surrogate, which JSON allows, cannot be encoded.
    found = str(one).encode(errors="replace")
    return name in known and hmac.compare_digest(found, known[name].encode())
