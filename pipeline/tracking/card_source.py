"""Where a run's rows come from, as its model card may say it: without a path of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import listing

_HUB_NAME = re.compile(r"(?:[\w-]+/)?[\w.-]+", re.ASCII)  # that the hub allows in a card


@dataclass(frozen=True)
class CardSource:
    """A data set as a card names it."""

    name: str  # for people
    type: str  # for the hub: its name there, or one of that form
    is_on_hub: bool
    subset: str | None = None
    revision: str | None = None


def card_source(data: Mapping[str, Any], source: str) -> CardSource:
    """Return how a card names the data of a run.

    Args:
        data: the group ``data`` of its config.
        source: where the rows were read from, as `pipeline.training.prepare.data_inputs` says it.
    """
    if source == "hub" and _HUB_NAME.fullmatch(data["name"]):
        name, subset = data["name"], data["subset"]
        title = f"{name} ({subset})" if subset else name
        return CardSource(title, name, True, subset, data["revision"])
    name = listing(_base_names(data), most=3) or "data"
    slug = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")
    return CardSource(name, slug or "data", is_on_hub=False)


def _base_names(data: Mapping[str, Any]) -> list[str]:
    if data["source"] == "hub":  # a folder that was given as a data set of the hub
        return [Path(data["name"]).name]
    given = data["train"]
    if isinstance(given, Mapping):  # of a package
        return [Path(given["path"]).name]
    return [Path(path).name for path in ([given] if isinstance(given, str) else given)]
