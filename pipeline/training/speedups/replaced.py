"""Layers that compute nothing: the last one returns the stored activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class NoActivationsError(RuntimeError):
    """A model whose first layers are replaced was called on a batch without activations."""


class UnfitError(Exception):
    """A speedup would not be exact for this model; says why."""


@dataclass(eq=False)
class Slot:
    """Holds a batch's activations, [examples, tokens, width], until the last frozen layer's turn.

    They are used once: a second call of the model needs its own.
    """

    given: Tensor | None = None

    def take(self, instead_of: Tensor) -> Tensor:
        """Return the stored activations instead of a layer's input.

        Raises:
            NoActivationsError: if there are none, or of another shape.
        """
        given, self.given = self.given, None
        if given is None:
            raise NoActivationsError(
                "the model's frozen layers are replaced by stored activations, and this batch has "
                "none; expected examples and task of the frozen-layer cache, or a restored model."
            )
        if given.shape[:2] != instead_of.shape[:2]:
            raise NoActivationsError(
                f"stored activations of {tuple(given.shape[:2])} examples and tokens, for a batch "
                f"of {tuple(instead_of.shape[:2])}: the task changes what the model reads."
            )
        return given.to(instead_of.device)


@dataclass(eq=False)
class Replaced:
    """Replaces a frozen layer: computes nothing; the last one returns what is stored."""

    elements: int
    slot: Slot | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Pass the hidden states on, or return the stored ones."""
        hidden = args[0] if args else next(iter(kwargs.values()))
        if self.slot is not None:
            hidden = self.slot.take(hidden)
        return (hidden, *[None] * (self.elements - 1)) if self.elements else hidden


def replace(layers: Sequence[Module], tuples: Sequence[int], slot: Slot) -> None:
    """Replace what a model's first layers compute; the modules stay, so all names and states do.

    Each has the length of its output tuple, whose first element counts; 0: a tensor.
    """
    for layer, elements in zip(layers, tuples, strict=True):
        layer.forward = Replaced(elements, slot if layer is layers[-1] else None)


def restore(layers: Sequence[Module]) -> None:
    """Let layers compute again."""
    for layer in layers:
        del layer.forward
