"""Torch's private parts: the only file that touches them.

- ``Module._forward_pre_hooks`` and the like: what is called before or after a module computes;
  public is only the way to add and to remove one.
- ``torch._softmax_backward_data``: the gradient of a softmax that is computed already.
- ``_extra_state``: how torch ends the name of what is neither parameter nor buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.nn import Module

EXTRA = "_extra_state"

# The function itself: it is called in each layer at each step.
softmax_backward = torch._softmax_backward_data


def forward_pre_hooks(module: Module) -> Sequence[object]:
    """Return what is called before a module computes."""
    return list(module._forward_pre_hooks.values())


def is_hooked(module: Module) -> bool:
    """Return whether a module has a hook of any kind, also on its state dict."""
    return any(hooks for name, hooks in vars(module).items() if name.endswith("_hooks"))


def are_altered(modules: Iterable[Module]) -> bool:
    """Return whether one of some modules computes other or more than its class says.

    All in one call, and no other kinds of hooks: it is asked for each layer at each step.
    """
    return any(
        "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in modules
    )
