"""Drift: what a run depends on besides its config, then and now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.common.errors import listing
from pipeline.common.text import printable
from pipeline.config.flat import settings

Sameness = Literal["same", "different", "unknown"]


@dataclass(frozen=True)
class Drift:
    """One thing that a result depends on, compared."""

    what: str  # config, data, model, code, packages, machine, predictions or metrics
    state: Sameness
    detail: str

    @classmethod
    def not_recorded(cls, what: str) -> Drift:
        """Return the drift of something that a record does not have."""
        return cls(what, "unknown", "it is not in the record")

    def __str__(self) -> str:
        state = "cannot be known" if self.state == "unknown" else self.state
        return f"{self.what:11} {state}" + (f": {self.detail}" if self.detail else "")


def drifts(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Drift]:
    """Compare two records of provenance and inputs, what matters most first.

    Args:
        then: ``provenance.json`` and ``inputs.json`` of a run as one mapping, not trusted.
        now: the same of another run, or of this process.
    """
    parts = {
        "data": _data,
        "model": _model,
        "code": _code,
        "packages": _packages,
        "machine": _machine,
    }
    found = []
    for what, compare in parts.items():
        try:
            changes = list(compare(then, now))
        except (KeyError, TypeError, AttributeError):  # as odd records raise
            found.append(Drift.not_recorded(what))
            continue
        detail = printable("; ".join(changes))
        if what == "packages" and not changes:
            detail = f"all {len(now['packages'])}"
        if what == "data" and not changes and then["data"].get("files") != now["data"].get("files"):
            detail = "the rows that are used; the file itself differs"
        found.append(Drift(what, "different" if changes else "same", detail))
    return found


def config_drift(then: Mapping[str, Any], now: Mapping[str, Any]) -> Drift:
    """Compare two configs by dotted key, without the tracking settings."""
    changes = [
        f"{key} {then.get(key, 'not set')} -> {now.get(key, 'not set')}"
        for key in settings({**then, **now})
        if key not in then or key not in now or then[key] != now[key]
    ]
    return Drift("config", "different" if changes else "same", printable(listing(changes)))


def _data(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = then["data"]["splits"], now["data"]["splits"]
    for split in {**before, **after}:
        one, other = before.get(split), after.get(split)
        if one is None or other is None:
            yield f"{split} is only in the {'second' if one is None else 'first'}"
        elif one["digest"] != other["digest"]:
            yield f"{split}: {_of(one)} -> {_of(other)}"


def _of(split: Mapping[str, Any]) -> str:
    return f"{split['rows']} rows ({split['digest']})"


def _model(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = then["model"], now["model"]
    for part in ("weights", "config", "tokenizer"):
        if before[part] != after[part]:
            yield f"{part} {str(before[part])[:12]} -> {str(after[part])[:12]}"


def _code(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = then["tunewright"], now["tunewright"]
    if before["source"] != after["source"]:
        yield f"tunewright {before['version']} ({before['source']}) -> {after['version']} " + (
            f"({after['source']})"
        )
    one, other = then["project"] or {}, now["project"] or {}
    if one.get("commit") != other.get("commit"):
        yield f"project's commit {_short(one)} -> {_short(other)}"
    if one.get("changes") != other.get("changes"):
        yield f"uncommitted changes {one.get('changes')} -> {other.get('changes')}"


def _short(project: Mapping[str, Any]) -> str:
    return str(project.get("commit", "none"))[:12]


def _packages(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then["python"] != now["python"]:
        yield f"{then['python']} -> {now['python']}"
    before, after = then["packages"], now["packages"]
    changed = {
        name: (before.get(name, "none"), after.get(name, "none"))
        for name in sorted({**before, **after}, key=str.lower)
        if before.get(name) != after.get(name)
    }
    if changed:
        yield listing(f"{name} {one} -> {other}" for name, (one, other) in changed.items())


def _machine(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = then["machine"], now["machine"]
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            yield f"{key} {before.get(key)} -> {after.get(key)}"
