"""Accounts: what one key uploads, trains and asks, no other key sees."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.hosting.errors import ApiError
from pipeline.hosting.files import Files
from pipeline.hosting.jobs import Jobs
from pipeline.hosting.limits import Limits

_SCHEME = "bearer "


@dataclass(frozen=True)
class Account:
    """What belongs to a key."""

    name: str  # made of the key, which cannot be read from it
    files: Files
    jobs: Jobs


class Accounts:
    """The accounts of a server: of the keys that it was given, or else of any key."""

    def __init__(self, folder: Path, limits: Limits, keys: Sequence[str] = ()) -> None:
        self._folder, self._limits, self._keys = folder, limits, keys
        self._opened: dict[str, Account] = {}
        self._lock = threading.Lock()

    def of(self, authorization: str | None) -> Account:
        """Return the account of a request's header.

        Raises:
            ApiError: for no key, or one that the server does not know.
        """
        given = authorization or ""
        key = given[len(_SCHEME) :].strip() if given.lower().startswith(_SCHEME) else ""
        if not key:
            raise ApiError(
                401,
                "You didn't provide an API key. Send it in an Authorization header: "
                "`Authorization: Bearer KEY`.",
                code="missing_api_key",
            )
        known = [hmac.compare_digest(key.encode(), one.encode()) for one in self._keys]
        if self._keys and not any(known):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        return self._open(hashlib.sha256(key.encode()).hexdigest()[:12])

    def all(self) -> Iterator[Account]:
        """Open every account that was used before."""
        for place in sorted(self._folder.glob("*/")):
            yield self._open(place.name)

    def _open(self, name: str) -> Account:
        with self._lock:
            if name not in self._opened:
                place = self._folder / name
                self._opened[name] = Account(
                    name,
                    Files(place / "files", self._limits),
                    Jobs(place / "jobs", name),
                )
            return self._opened[name]
