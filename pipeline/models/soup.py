"""Model soups: the weights of several fine-tuned models, averaged into one.

Wortsman et al. (2022), Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time, https://arxiv.org/abs/2203.05482.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import listing

if TYPE_CHECKING:
    import torch

_PLAIN = ("F16", "BF16", "F32", "F64", "I64", "I32", "BOOL")  # of weights, and of buffers


@dataclass(frozen=True)
class Tried:
    """A model that was tried in the soup."""

    position: int  # among the models, the best first
    score: float  # of the soup with it
    is_in: bool  # whether it stayed


def greedy(count: int, score: Callable[[Sequence[int]], float], sign: float) -> list[Tried]:
    """Add models to a soup, the best first, each unless the score falls with it.

    Args:
        count: of the models.
        score: of the average of some of them, by their positions.
        sign: 1 where more is better, -1 where less is.
    """
    chosen: list[int] = []
    best, tried = -math.inf, []
    for position in range(count):
        found = sign * score([*chosen, position])
        if is_in := found >= best:
            chosen.append(position)
            best = found
        tried.append(Tried(position, sign * found, is_in))
    return tried


def average(folders: Sequence[Path], out: Path) -> None:
    """Write the mean of models' weights into a folder, under the names of the first one's files.

    It is summed in float32 and in the order of the folders. A file of weights at a time is in
    memory, and one tensor of each model.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    for file in _files(folders[0]):
        with ExitStack() as stack:
            models = [stack.enter_context(safe_open(f / file, framework="pt")) for f in folders]
            names = models[0].keys()
            mean = {name: _mean([model.get_tensor(name) for model in models]) for name in names}
        save_file(mean, out / file, metadata={"format": "pt"})


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    first, *others = tensors
    if not first.is_floating_point():  # a buffer, such as positions
        return first.clone()
    total = first.float().clone()
    for tensor in others:
        total += tensor.float()
    return total.div_(len(tensors))


def why_apart(first: Path, other: Path) -> str:
    """Return why the weights of two models have no average; empty where they have."""
    own, theirs = _tensors(first), _tensors(other)
    packed = [name for name, (dtype, _) in {**own, **theirs}.items() if dtype not in _PLAIN]
    if packed:
        return f"weights are quantized ({listing(packed, most=2)}), and codes have no mean"
    differing = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
    if differing:
        return f"it is of another architecture: {listing(differing, most=2)}"
    return ""


def _tensors(folder: Path) -> Mapping[str, Any]:
    """Return dtype and shape of each tensor of a model, by name and the file that has it."""
    from safetensors import safe_open

    found = {}
    for file in _files(folder):
        with safe_open(folder / file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                part = opened.get_slice(name)
                found[name] = part.get_dtype(), (file, *part.get_shape())
    return found


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))
