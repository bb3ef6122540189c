"""What training changes in a model: all that has to be saved."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.models.torch_parts import EXTRA

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def trained_state(model: Module) -> dict[str, Tensor]:
    """Return the entries of the state dict that can change: trained parameters, and all buffers.

    They are the model's own tensors, no copies. Tied weights come once for each of their names.
    """
    named = chain(
        (n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad),
        (n for n, _ in model.named_buffers(remove_duplicate=False)),
    )
    kept = set(named)
    return {
        name: value
        for name, value in model.state_dict().items()
        if name in kept or name.endswith(EXTRA)
    }


def load_trained_state(model: Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `trained_state` returned.

    Raises:
        RuntimeError: if the model trains different weights, or of other shapes.
    """
    others = trained_state(model).keys() ^ state.keys()
    if others:
        raise RuntimeError(f"only one of model and state has {min(others)} ({len(others)} in all)")
    model.load_state_dict(state, strict=False)
