"""The matrices of a model that an adapter changes, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.config.adapter import Ia3Config, LoraConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def targets_of(
    model: PreTrainedModel,
    config: LoraConfig | Ia3Config,
    usual: Sequence[str] | str | None,
    head: Sequence[str],
) -> list[str] | str:
    """Return the names of the matrices that are adapted; refuse a given one that matches none."""
    bodies = bodies_of(model, head)
    if config.targets is not None:
        for target in config.targets:
            if not any(is_target(name, [target]) for name in bodies):
                tails = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in bodies))
                raise ConfigError(
                    f"adapter.targets=[{', '.join(config.targets)}]: {target} names no matrix of "
                    f"{type(model).__name__} outside its head.{did_you_mean(target, tails)} "
                    f"Valid: {listing(tails)}."
                )
        return list(config.targets)
    if isinstance(usual, str):  # a pattern
        return usual
    known = [t for t in usual or () if any(is_target(name, [t]) for name in bodies)]
    return known or _attention(model, bodies)


def _attention(model: PreTrainedModel, bodies: Sequence[str]) -> list[str]:
    """Return the names of the matrices of the layers' attention; without any: of the layers."""
    inside = [name for name in bodies if re.search(r"\.\d+\.", name)] or list(bodies)
    attention = [name for name in inside if re.search("att(entio)?n", name.lower())]
    if not attention and not inside:
        raise ConfigError(
            f"adapter.targets=null: {type(model).__name__} has no linear layers to adapt; expected "
            "adapter=none."
        )
    # The part after a layer's number is the same in all layers, and short in PEFT's file.
    return sorted({re.split(r"\.\d+\.", name)[-1] for name in attention or inside})


def linear(model: PreTrainedModel) -> dict[str, bool]:
    """Return the names of all matrices, and whether they are stored transposed."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    return {
        name: isinstance(module, Conv1D)
        for name, module in model.named_modules()
        if isinstance(module, Linear | Conv1D)
    }


def bodies_of(model: PreTrainedModel, head: Sequence[str]) -> list[str]:
    """Return the names of the matrices that may be adapted: not head or output embedding."""
    output = model.get_output_embeddings()
    return [
        name
        for name in linear(model)
        if name.split(".", 1)[0] not in head and model.get_submodule(name) is not output
    ]


def is_target(name: str, targets: Sequence[str] | str) -> bool:
    """Return whether a name matches a module, by PEFT's rules."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)
