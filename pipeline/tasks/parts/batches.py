"""Batches: examples padded to one length, and outputs of several batches joined again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from pipeline.models import Checkpoint

IGNORED = -100  # a target that has no part in the loss

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # what encoders read

LEFT = "prompt_"  # prefix of what generation goes on from: it ends where the new tokens begin


def reads_types(checkpoint: Checkpoint) -> bool:
    """Return whether a model is told which text of a pair each token is of.

    Not every tokenizer knows: some tell a model that has no use for it, or no embedding, and that
    of another model tells nothing where it would have.
    """
    return (getattr(checkpoint.config, "type_vocab_size", None) or 0) > 1


def collate(examples: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Make tensors of shape [examples, longest] of lists and of shape [examples] of numbers.

    Token ids are padded with the padding token, targets with `IGNORED`, masks and types with 0; on
    the right, but on the left where a name begins with `LEFT`.
    """
    import torch

    batch: dict[str, torch.Tensor] = {}
    for name, first in examples[0].items():
        values = [example[name] for example in examples]
        if isinstance(first, list):
            fill = _fill(name, pad_token_id)
            longest = max(map(len, values))
            pads = [[fill] * (longest - len(value)) for value in values]
            both = zip(values, pads, strict=True)
            values = [pad + v if name.startswith(LEFT) else v + pad for v, pad in both]
        batch[name] = torch.tensor(values)
    return batch


def _fill(name: str, pad_token_id: int) -> int:
    if name.endswith("input_ids"):
        return pad_token_id
    return IGNORED if name.endswith("labels") else 0


def join(
    parts: Sequence[Mapping[str, np.ndarray[Any, Any]]], order: Sequence[int], padding: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Join the outputs of batches whose examples come in ``order``, and undo the order.

    Arrays of other widths are padded on the right.
    """
    joined: dict[str, np.ndarray[Any, Any]] = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        shape = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
        whole = np.full((len(order), *shape), padding, dtype=arrays[0].dtype)
        start = 0
        for array in arrays:
            where = np.array(order[start : start + len(array)])
            part = whole[where]
            part[(slice(None), *(slice(0, size) for size in array.shape[1:]))] = array
            whole[where] = part
            start += len(array)
        joined[name] = whole
    return joined
