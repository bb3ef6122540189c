"""Batches: examples split by length and padded, and outputs of several batches joined."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.models import Checkpoint

IGNORED = -100  # a target that the loss ignores

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # what encoders read

# The fixed cost of calling the model, in tokens. On a CPU the fastest of several with MiniLM; a GPU
# computes about this much while Python prepares the next call.
CALL_TOKENS, CALL_TOKENS_GPU = 100, 4096

MANY_LENGTHS = 256  # beyond which they are rounded up to multiples of 8, to split quickly

LEFT = "prompt_"  # prefix of columns that generation continues: padded on the left


def reads_types(checkpoint: Checkpoint) -> bool:
    """Return whether a model uses token types: which text of a pair each token is from.

    Tokenizers are not reliable here: some return types for a model that ignores them or has no
    embedding of them, and some return none for a model that needs them.
    """
    return (getattr(checkpoint.config, "type_vocab_size", None) or 0) > 1


def cut(
    lengths: Sequence[int], most: int | None, call: int, rows: int | None = None
) -> list[list[int]]:
    """Split a batch into the cheapest micro-batches: padded tokens, and a fixed cost per call.

    A dynamic programme over the lengths that occur: examples of one length stay together unless
    they exceed the budget, so its time depends on the number of lengths, not of examples.

    Args:
        lengths: tokens of each example.
        most: tokens of a micro-batch, padding included; a longer example is one by itself. None: no
            limit, and no split by length.
        call: the fixed cost of a micro-batch, in tokens.
        rows: examples of a micro-batch; None: no limit.

    Returns:
        The examples' positions in each micro-batch, the shortest first.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    every = rows or len(lengths)
    if most is None:
        return [order[start : start + every] for start in range(0, len(order), every)]
    if len(set(lengths)) > MANY_LENGTHS:
        lengths = [-(-n // 8) * 8 for n in lengths]
    counts = Counter(lengths)
    sizes = sorted(counts)
    upto = [0, *accumulate(counts[size] for size in sizes)]  # examples below each length
    room = [min(every, max(1, most // max(1, size))) for size in sizes]
    best, start = [0.0], [0]
    for end, size in enumerate(sizes, 1):
        costs = []
        for begin in range(end):
            n = upto[end] - upto[begin]
            costs.append(best[begin] + n * size + call * math.ceil(n / room[end - 1]))
        start.append(min(range(end), key=costs.__getitem__))
        best.append(costs[start[-1]])
    parts: list[list[int]] = []
    end = len(sizes)
    while end:
        some = order[upto[start[end]] : upto[end]]
        calls = math.ceil(len(some) / room[end - 1])
        edges = [len(some) * k // calls for k in range(calls + 1)]
        parts[:0] = [some[a:b] for a, b in pairwise(edges)]
        end = start[end]
    return parts


def inputs_of(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what of a batch a model with a head reads."""
    return {name: value for name, value in batch.items() if name not in ("labels", "row")}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Compute matrix products in a precision; weights stay in float32."""
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def call_tokens(model: PreTrainedModel) -> int:
    """Return the fixed cost of calling a model, in tokens."""
    return CALL_TOKENS if model.device.type == "cpu" else CALL_TOKENS_GPU


def length(example: Mapping[str, Any]) -> int:
    """Return the tokens of an encoded example: those of its longest column."""
    return max(len(value) for value in example.values() if isinstance(value, list))


def reachable_ids(
    splits: Iterable[Dataset], tokenizer: PreTrainedTokenizerBase
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the token ids that batches of encoded splits can have, padding included, ascending."""
    import pyarrow.compute as pc

    found = [np.array(tokenizer.all_special_ids, np.int64)]
    for split in splits:
        columns = [name for name in split.column_names if name.endswith("input_ids")]
        for name in columns if len(split) else []:
            # Of the table that rows were selected from: a superset.
            ids = pc.unique(pc.list_flatten(split.data.column(name)))
            found.append(ids.to_numpy().astype(np.int64))
    return np.unique(np.concatenate(found))


def collate(examples: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Build tensors: [examples, longest] from lists, [examples] from numbers.

    Token ids are padded with the padding token, targets with `IGNORED`, masks and types with 0; on
    the right, or on the left if a name begins with `LEFT`.
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

    Narrower arrays are padded on the right.
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
