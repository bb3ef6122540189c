"""Heads over a model whose outputs have names: labels or tags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import amount, listing

if TYPE_CHECKING:
    from pipeline.tasks.base import Task

_NAMELESS = re.compile(r"LABEL_\d+")  # as transformers calls them


def named_head(names: Sequence[str]) -> Mapping[str, Any]:
    """Return what transformers must know of a head with these outputs."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }


def are_matched(trained: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a trained head's outputs are those of the data, or have no names of their own."""
    return set(trained) == set(names) or all(_NAMELESS.fullmatch(name) for name in trained)


def head_warnings(task: Task[Any], names: Sequence[str]) -> list[str]:
    """Return a warning where a model's own head is replaced, or kept for other names."""
    trained = task.checkpoint.own_labels(task.auto_class)
    own = f"the model's own head of {amount(len(trained), 'label')} ({listing(trained, most=6)})"
    if not trained:
        return []
    if len(trained) != len(names):
        return [f"{own} is replaced by a new one of {len(names)} ({listing(names, most=6)})"]
    if are_matched(trained, names):
        return []
    return [f"{own} is kept, in this order, for labels of other names ({listing(names, most=6)})"]
