"""What logged configs meant: renamed and added keys, migrated when a record is read.

A command has to use today's names, and conf/ gives every key; a record keeps what it was written
with, and is migrated when it is read.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.common.errors import ConfigError
from pipeline.config.flat import MESSAGES, flatten

RENAMED = {  # the new name of each old one
    "training.packing": "training.unpadding",
    "training.prefix_cache": "training.frozen_layer_cache",
}


class Added(NamedTuple):
    """A key that records may lack, and what older code did, however old the record is."""

    key: str
    meant: Any
    task: str | None = None  # the task that has the key; None: not a task's
    source: str | None = None  # the same of a source of data

    def fits(self, task: Any, source: Any) -> bool:
        """Whether a record of this task and source may lack it."""
        return self.task in (None, task) and self.source in (None, source)


ADDED = (
    Added("model.trust_remote_code", None),
    Added("model.from_config", None),
    Added("model.tokenizer", None),
    Added("adapter", {"name": "none"}),
    Added("provider", {"name": "none"}),
    Added("task.objective", "val/f1_macro", "classification"),
    Added("task.language", "en", "classification"),
    Added("task.approach", "head", "classification"),
    Added("task.prompt", "{text}\nLabel:", "classification"),
    Added("task.multi_label", False, "classification"),
    Added("task.class_weights", None, "classification"),
    Added("task.label_smoothing", 0.0, "classification"),
    Added("task.long_rows", "truncate", "classification"),
    Added("task.stride", 32, "classification"),
    Added("task.system", None, "chat"),
    Added("optimizer.layer_decay", 1.0),
    Added("optimizer.head_multiplier", 1.0),
    Added("optimizer.scale_with_batch", "none"),
    Added("training.max_steps", None),
    Added("training.threads", None),
    Added("training.deterministic", True),
    Added("training.checkpoint_every", 1.0),
    Added("training.keep_checkpoints", 1),
    Added("training.micro_batch_tokens", None),
    Added("training.active_vocabulary", False),
    Added("training.unpadding", False),
    Added("training.frozen_layer_cache", False),
    Added("training.checkpoint_seconds", 0.0),
    Added("evaluation.early_rows", None),
    Added("evaluation.slices", []),
    Added("evaluation.counterfactual", None),
    Added("data.train_share", 1.0),
    Added("data.folds", None),
    Added("data.fold", 0),
    # Until then a known data set gave only the columns of its own task.
    Added("data.text_pair", None),
    Added("data.label_separator", None),
    Added("data.missing_labels", None),
    Added("data.input", "source"),
    Added("data.target", "target"),
    Added("data.context", "context"),
    Added("data.question", "question"),
    Added("data.answers", "answers"),
    Added("data.layout", "auto"),
    Added("data.delimiter", None, source="files"),
    Added("data.quoting", "minimal", source="files"),
)


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a logged config, of any age and not trusted, as if it were written today.

    Raises:
        ConfigError: for a key that has two values, under its old and its new name.
    """
    now = {k: dict(node) if isinstance(node, Mapping) else node for k, node in tree.items()}
    for old, new in RENAMED.items():
        (group, before), (_, name) = old.split("."), new.split(".")
        node = now.get(group)
        if isinstance(node, dict) and before in node:
            value = node.pop(before)
            if node.setdefault(name, value) != value:
                raise ConfigError(
                    f"{old}={value} and {new}={node[name]}: one key by its old and its new "
                    f"name; expected {new} alone."
                )
    task, data = (now.get(group) for group in ("task", "data"))
    kind = task.get("name") if isinstance(task, dict) else None
    source = data.get("source") if isinstance(data, dict) else None
    for one in ADDED:
        group, _, key = one.key.partition(".")
        node = now.get(group) if key else now
        if isinstance(node, dict) and one.fits(kind, source):
            node.setdefault(key or group, copy.copy(one.meant))
    return now


def migrated_settings(settings: Mapping[str, Any], keys: Collection[str] = ()) -> dict[str, Any]:
    """Return values by dotted key as they would be recorded today, without those for messages.

    The keys are those that may be added, with what they meant then.
    """
    now = {RENAMED.get(key, key): value for key, value in settings.items() if key not in MESSAGES}
    for one in ADDED:
        for key, meant in flatten({one.key: one.meant}).items():
            if key in keys and one.fits(now.get("task.name"), now.get("data.source")):
                now.setdefault(key, copy.copy(meant))
    return now


def migrated_params(params: Mapping[str, str]) -> dict[str, str]:
    """Return logged values by dotted key under today's names.

    Runs from before there were services were trained on their own machine.
    """
    return {
        "provider.name": "none",
        **{RENAMED.get(key, key): value for key, value in params.items()},
    }


def migrated_overrides(overrides: Sequence[str]) -> list[str]:
    """Return a logged command line's overrides under today's names."""
    now = []
    for override in overrides:
        key, equals, value = override.partition("=")
        name = key.lstrip("+~")
        sign = key.removesuffix(name)
        now.append(f"{sign}{RENAMED.get(name, name)}{equals}{value}")
    return now


def renamed(key: str) -> str | None:
    """Return the sentence that refuses a key's old name; None for other keys."""
    return f"{key} is now called {RENAMED[key]}." if key in RENAMED else None
