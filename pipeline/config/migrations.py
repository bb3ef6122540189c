"""What logged configs meant: keys that were renamed since, as a record of any age is read.

A command has to use today's names; a record keeps those of its day and is migrated as it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """A key that has another name now."""

    since: str  # the day; no version was released yet
    old: str
    new: str


RENAMED = (
    Renamed("2026-11-28", "training.packing", "training.unpadding"),
    Renamed("2026-11-28", "training.prefix_cache", "training.frozen_layer_cache"),
)

_NEW = {one.old: one.new for one in RENAMED}


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a logged config as it would be written today.

    Args:
        tree: the record's, of any age and not trusted.
    """
    now = {k: dict(node) if isinstance(node, Mapping) else node for k, node in tree.items()}
    for _, old, new in RENAMED:
        (group, name), (_, new_name) = old.split("."), new.split(".")
        node = now.get(group)
        if isinstance(node, dict) and name in node:
            value = node.pop(name)
            node.setdefault(new_name, value)
    return now


def migrated_params(params: Mapping[str, str]) -> dict[str, str]:
    """Return logged values by dotted key under today's names."""
    return {_NEW.get(key, key): value for key, value in params.items()}


def migrated_overrides(overrides: Sequence[str]) -> list[str]:
    """Return a logged command line's overrides under today's names."""
    now = []
    for override in overrides:
        key, equals, value = override.partition("=")
        name = key.lstrip("+~")
        sign = key.removesuffix(name)
        now.append(f"{sign}{_NEW.get(name, name)}{equals}{value}")
    return now


def renamed(key: str) -> str | None:
    """Return the sentence that refuses a key's old name, or None where it is none."""
    return f"{key} is now called {_NEW[key]}." if key in _NEW else None
