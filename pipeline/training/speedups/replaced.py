"""Layers that compute nothing: the last of them gives what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class NoActivationsError(RuntimeError):
    """A model whose first layers are replaced was called on a batch that they know nothing of."""


class UnfitError(Exception):
    """A model that a speedup would not leave exact; says why."""


class Slot:
    """Holds a batch's activations, [examples, tokens, width], until the last frozen layer's turn.

    They are taken once: a second call of the model has to be given its own.
    """

    def __init__(self) -> None:
        self.given: Tensor | None = None

    def take(self, instead_of: Tensor) -> Tensor:
        """Give what is stored instead of a layer's input.

        Raises:
            NoActivationsError: where nothing was given, or of another shape.
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


class Replaced:
    """What a frozen layer computes instead: nothing; the last of them what is stored."""

    def __init__(self, elements: int, slot: Slot | None) -> None:
        self._elements = elements
        self._slot = slot

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Pass the hidden states on, or give the stored ones."""
        hidden = args[0] if args else next(iter(kwargs.values()))
        if self._slot is not None:
            hidden = self._slot.take(hidden)
        return (hidden, *[None] * (self._elements - 1)) if self._elements else hidden


def replace(layers: Sequence[Module], tuples: Sequence[int], slot: Slot) -> None:
    """Replace what layers compute; the modules stay, so that all names and states do.

    Args:
        layers: of a model, from the first on.
        tuples: elements of what each of them gives, of which the first counts; 0: a tensor.
        slot: has what the last of them is to give.
    """
    for layer, elements in zip(layers, tuples, strict=True):
        layer.forward = Replaced(elements, slot if layer is layers[-1] else None)


def restore(layers: Sequence[Module]) -> None:
    """Let layers compute again."""
    for layer in layers:
        del layer.forward
