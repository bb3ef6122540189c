"""What of a model is not trained: its first layers, and their dropout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import torch

from pipeline.common.errors import ConfigError
from pipeline.models.adapters import layers_after, layers_of, new_head
from pipeline.models.torch_parts import forward_pre_hooks

if TYPE_CHECKING:
    from torch.nn import Module, ModuleList
    from transformers import PreTrainedModel

M = TypeVar("M", bound="PreTrainedModel")


class _Quiet:
    """Switches dropout off in some modules whenever the model is about to compute.

    Trainer sets the entire model to training mode at every step. It holds names, not modules, so
    that it also works for a copy of the model.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, model: Module, _: object) -> None:
        if model.training:
            for name in self._names:
                model.get_submodule(name).eval()


def quiet(model: M) -> M:
    """Keep dropout off in what is frozen, up to the first trained layer, also in training mode.

    For models whose head or top layers are trained, not for adapters: a frozen module's output is
    then the same at every step, whether or not it is stored. Modules without weights after the
    layers are quiet as well if the model has them next to its layers; the head's dropout is not.
    """
    if not any(isinstance(hook, _Quiet) for hook in forward_pre_hooks(model)):
        model.register_forward_pre_hook(_Quiet(tuple(_frozen(model))))
    return model


def _frozen(model: PreTrainedModel) -> Iterator[str]:
    """Yield the names of the largest modules of the base model that have nothing to train."""
    root: Module = model.base_model
    layers: ModuleList | None = None
    with suppress(ConfigError):
        is_pair = hasattr(root, "encoder") and hasattr(root, "decoder")
        _, layers = layers_of(root.get_submodule("decoder") if is_pair else root)

    yield from _below(root, "" if root is model else model.base_model_prefix, layers)


# Not a nested function: that would refer to itself, and keep the layers in memory.
def _below(module: Module, name: str, layers: Module | None) -> Iterator[str]:
    if not is_trained(module):
        yield name
    elif any(m is layers for m in module.modules()):
        for child_name, child in module.named_children():
            yield from _below(child, f"{name}.{child_name}".lstrip("."), layers)


def is_trained(module: Module) -> bool:
    """Whether any part of a module is trained."""
    return any(p.requires_grad for p in module.parameters())


def frozen_layers(model: PreTrainedModel) -> tuple[tuple[Module, ...], str] | None:
    """Find the layers at the beginning that are not trained.

    Returns:
        The layers, and a digest of all weights and buffers that they and the modules before them
        can read; None if there are none, or a module before them is trained.
    """
    if model.config.is_encoder_decoder:
        return None
    root: Module = model.base_model
    try:
        place, layers = layers_of(root)
    except ConfigError:
        return None
    count = next((i for i, layer in enumerate(layers) if is_trained(layer)), len(layers))
    if not count:
        return None
    head = [model.get_submodule(name) for name in new_head(model)]
    after = [*layers[count:], *layers_after(root, place), *head]
    later = {id(t) for module in after for t in chain(module.parameters(), module.buffers())}
    if any(p.requires_grad and id(p) not in later for p in root.parameters()):
        return None
    tensors = chain(root.named_parameters(), root.named_buffers())
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        if id(tensor) not in later:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
    return tuple(layers[:count]), digest.hexdigest()


@contextmanager
def mode(model: Module, *, training: bool) -> Iterator[None]:
    """Put a model into training or evaluation mode for a while."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)
