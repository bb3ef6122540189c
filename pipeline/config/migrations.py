"""What logged configs meant: keys that were renamed or added since, as records are read.

A command has to use today's names, and conf/ gives every key; a record keeps what it was written
with, and is migrated where it is read.
"""

from __future__ import annotations

import copy
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


class Added(NamedTuple):
    """A key that records from before it do not have."""

    since: str
    key: str
    meant: Any  # what was done then
    task: str | None = None  # the task that has the key; None: not a task's


ADDED = (
    Added("2026-11-24", "model.trust_remote_code", None),
    Added("2026-11-24", "model.from_config", None),
    Added("2026-11-24", "model.tokenizer", None),
    Added("2026-11-24", "adapter", {"name": "none"}),
    Added("2026-11-24", "task.objective", "val/f1_macro", "classification"),
    Added("2026-11-24", "task.language", "en", "classification"),
    Added("2026-11-24", "task.approach", "head", "classification"),
    Added("2026-11-24", "task.prompt", "{text}\nLabel:", "classification"),
    Added("2026-11-24", "task.multi_label", False, "classification"),
    Added("2026-11-24", "task.class_weights", None, "classification"),
    Added("2026-11-24", "task.label_smoothing", 0.0, "classification"),
    Added("2026-11-24", "task.long_rows", "truncate", "classification"),
    Added("2026-11-24", "task.stride", 32, "classification"),
    Added("2026-11-24", "training.threads", None),
    Added("2026-11-24", "training.deterministic", True),
    Added("2026-11-24", "training.checkpoint_every", 1.0),
    Added("2026-11-24", "training.keep_checkpoints", 1),
    Added("2026-11-24", "training.micro_batch_tokens", None),
    Added("2026-11-24", "training.active_vocabulary", False),
    Added("2026-11-24", "training.unpadding", False),
    Added("2026-11-24", "training.frozen_layer_cache", False),
    Added("2026-11-24", "training.checkpoint_seconds", 0.0),
    Added("2026-11-26", "evaluation.early_rows", None),
    Added("2026-11-27", "evaluation.slices", []),
    Added("2026-11-27", "evaluation.counterfactual", None),
    Added("2026-11-27", "data.train_share", 1.0),
    Added("2026-11-27", "data.folds", None),
    Added("2026-11-27", "data.fold", 0),
    # Until then a known data set gave the columns of its own task alone.
    Added("2026-11-28", "data.text_pair", None),
    Added("2026-11-28", "data.label_separator", None),
    Added("2026-11-28", "data.input", "source"),
    Added("2026-11-28", "data.target", "target"),
    Added("2026-11-28", "data.context", "context"),
    Added("2026-11-28", "data.question", "question"),
    Added("2026-11-28", "data.answers", "answers"),
    Added("2026-11-28", "data.layout", "auto"),
)

_NEW = {one.old: one.new for one in RENAMED}


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a logged config as it would be written today.

    Args:
        tree: the record's, of any age and not trusted.
    """
    now = {k: dict(node) if isinstance(node, Mapping) else node for k, node in tree.items()}
    for _, old, new in RENAMED:
        (group, before), (_, name) = old.split("."), new.split(".")
        node = now.get(group)
        if isinstance(node, dict) and before in node:
            value = node.pop(before)
            node.setdefault(name, value)
    task = now.get("task")
    kind = task.get("name") if isinstance(task, dict) else None
    for one in ADDED:
        group, _, key = one.key.partition(".")
        node = now.get(group) if key else now
        if isinstance(node, dict) and one.task in (None, kind):
            node.setdefault(key or group, copy.copy(one.meant))
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
