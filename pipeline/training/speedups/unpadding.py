"""Unpadding: on a CPU, the layers of an encoder compute a batch's tokens, and no padding.

Layers compute one row of all tokens, and attention by examples, in buckets of similar lengths.
Equal to what is computed with padding, but for the last bits, and zeros at padded positions.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    bidirectional_mask_function,
    sdpa_mask,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.common.errors import ConfigError
from pipeline.common.session import session
from pipeline.models.adapters import layers_of
from pipeline.models.batches import cut
from pipeline.models.frozen import mode
from pipeline.models.transformers_parts import attention_of
from pipeline.training.speedups.active_vocabulary import ActiveEmbedding
from pipeline.training.speedups.fused import FusedLayer
from pipeline.training.speedups.replaced import Replaced, UnfitError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

UNPADDED = "tunewright_unpadded"  # the attention of a model whose layers compute no padding
CALL_TOKENS = 1_000_000  # what a call costs in training, in tokens: cutting a batch saves nothing
_BUCKET = 50  # the fixed cost of a bucket, in tokens
_ANY = 2**62  # tokens of a bucket
_TRIED = (7, 3, 9, 3, 11)  # lengths; 33 tokens have spare rows
_SAME = 1e-4  # absolute and relative


@dataclass
class _Plan:
    """How the current batch is unpadded; ``masks`` are those that the model derived from it."""

    config: Any  # the model's, which its attention shares
    before: _Plan | None  # another model's, which continues afterwards
    shape: tuple[int, int]
    flat: Tensor  # positions of the tokens in the batch, as they are computed
    buckets: Sequence[_Bucket]  # the last one is of the spare rows, if any
    spare: int  # rows of zeros after the tokens
    masks: list[Tensor | None] = field(default_factory=list)
    is_unpadded: bool = False  # now, between the first layer and the last


def _spare(tokens: int) -> int:
    """Return how many rows of zeros are put after so many tokens, an eighth of them at most.

    Without them nearly every batch would have a new shape, and oneDNN generates code for each new
    shape, which costs more than the product of a few hundred tokens itself.
    """
    return -tokens % (1 << max(0, tokens.bit_length() - 4))


class _Bucket:
    """Examples of some lengths, to be padded to the longest if it is not the shortest."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.tokens, self.shape = sum(lengths), (len(lengths), max(lengths))
        self.index = self.mask = None
        if min(lengths) < max(lengths):
            real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            self.index, self.mask = real.flatten().nonzero().flatten(), real[:, None, None]


_PLAN: ContextVar[_Plan | None] = ContextVar("unpadding", default=None)


def _plan_of(config: object) -> _Plan | None:
    plan = _PLAN.get()
    return plan if plan is not None and plan.config is config else None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Create sdpa's mask and record it; one of more than padding is recorded as None."""
    made: Tensor | None = sdpa_mask(*args, **kwargs)
    plan = _plan_of(kwargs.get("config"))
    if plan is not None:
        is_padding = kwargs.get("mask_function") is bidirectional_mask_function
        plan.masks.append(made if is_padding else None)
    return made


def _attention(
    module: Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
) -> Any:
    """Do what sdpa does, where tokens are unpadded, [1, heads, tokens, width], by buckets."""
    plan = _plan_of(getattr(module, "config", None))
    if plan is None or not plan.is_unpadded:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    if mask is not plan.masks[0] or any(True for _ in _tensors(kwargs)):
        raise UnfitError(
            "attention has positions or a mask of its own; expected training.unpadding=false"
        )
    kwargs["is_causal"] = False
    sizes, outputs = [bucket.tokens for bucket in plan.buckets], []
    rows = [torch.split(x.squeeze(0).transpose(0, 1), sizes) for x in (query, key, value)]
    for bucket, *parts in zip(plan.buckets, *rows, strict=True):
        (n, longest), index = bucket.shape, bucket.index
        if index is not None:
            empty = (n * longest, *parts[0].shape[1:])
            parts = [x.new_zeros(empty).index_copy_(0, index, x) for x in parts]
        parts = [x.unflatten(0, bucket.shape).transpose(1, 2) for x in parts]
        output = sdpa_attention_forward(module, *parts, bucket.mask, **kwargs)[0].flatten(0, 1)
        outputs.append(output if index is None else output.index_select(0, index))
    return torch.cat(outputs).unsqueeze(0), None


class _Fused:
    """What a layer computes instead: unpadded tokens in one step, all else as before."""

    def __init__(self, layer: Module, config: object) -> None:
        self._layer, self._config = layer, config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plan = _plan_of(self._config)
        fused = FusedLayer.of(self._layer) if plan is not None and plan.is_unpadded else None
        if plan is None or fused is None:
            return type(self._layer).forward(self._layer, *args, **kwargs)
        return fused(args[0], plan.buckets)


def _fuse(layer: Module, config: object) -> bool:
    if FusedLayer.of(layer) is None or "forward" in vars(layer):
        return False
    layer.forward = _Fused(layer, config)
    return True


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    for each in value.values() if isinstance(value, Mapping) else ():
        yield from _tensors(each)
    for each in value if isinstance(value, list | tuple) else ():
        yield from _tensors(each)


ALL_ATTENTION_FUNCTIONS.register(UNPADDED, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(UNPADDED, _mask)


def unpad(model: PreTrainedModel) -> Unpadding | None:
    """Make the layers of an encoder compute unpadded tokens, in place.

    Args:
        model: on the CPU, where it stays; it may be PEFT's, and its first layers replaced by what
            is stored of them, so that those after them are unpadded.

    Returns:
        None if it is impossible or inexact, which is checked once per kind of model: logs why, and
        leaves the model unchanged.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    exact: set[tuple[Any, ...]] = session().kept(Unpadding, set)  # kinds of models that were tried
    unpadding = None
    try:
        unpadding = Unpadding(inner)
        kind = inner.config.to_json_string(), *((n, type(m)) for n, m in model.named_modules())
        if kind not in exact:
            unpadding.check(model)
            exact.add(kind)
    except Exception as error:  # a model's own code may raise anything
        if unpadding is not None:
            unpadding.undo()
        elif attention_of(inner.config) == UNPADDED:
            inner.set_attn_implementation("sdpa")
        log.info("unpadding is off for %s: %s", type(inner).__name__, error)
        return None
    return unpadding


class Unpadding:
    """A model whose layers compute unpadded tokens, and the way back.

    A batch is computed as before if it has no padding, or not only on the right; with gradient
    checkpointing; and if hidden states or attentions are requested.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        root, config = model.base_model, model.config
        if model.device.type != "cpu" or model.dtype != torch.float32:
            raise UnfitError(f"it is {model.dtype} on {model.device}")
        if attention_of(config) != "sdpa":
            raise UnfitError(f"its attention is {attention_of(config)}")
        try:
            _, layers = layers_of(root)
        except ConfigError:
            raise UnfitError("it has no list of layers") from None
        if config.is_encoder_decoder or any(getattr(m, "is_causal", 0) for m in layers.modules()):
            raise UnfitError("it is not an encoder")
        self._stored = [x for x in layers if isinstance(vars(x).get("forward"), Replaced)]
        if len(self._stored) == len(layers):
            raise UnfitError("all its layers are cached")
        self._model, self._root, self._config = model, root, root.config
        names = list(inspect.signature(root.forward).parameters)
        self._place = names.index("attention_mask")
        self._is_on = True
        self.used = 0  # times that tokens were unpadded
        own = layers[len(self._stored) :]
        model.set_attn_implementation(UNPADDED)
        self._hooks = [
            root.register_forward_pre_hook(self._begin, with_kwargs=True),
            root.register_forward_hook(self._end, always_call=True),
            own[0].register_forward_pre_hook(self._unpad, with_kwargs=True),
            layers[-1].register_forward_hook(self._pad),
        ]
        self._fused = [layer for layer in own if _fuse(layer, self._config)]

    def undo(self) -> None:
        """Let the model compute padding as before; undo every change."""
        for hook in self._hooks:
            hook.remove()
        for layer in self._fused:
            del layer.forward
        self._model.set_attn_implementation("sdpa")

    def check(self, model: PreTrainedModel) -> None:
        """Compute a batch of random tokens unpadded and as before, with all layers.

        Raises:
            UnfitError: if it was not unpadded, or the outputs differ.
        """
        words = self._model.get_input_embeddings()
        ids = torch.arange(words.num_embeddings)
        if isinstance(words, ActiveEmbedding):
            ids = (words.index < words.num_embeddings).nonzero().flatten()
        mask = (torch.arange(max(_TRIED)) < torch.tensor(_TRIED)[:, None]).long()
        drawn = torch.randint(len(ids), mask.shape, generator=torch.Generator().manual_seed(0))
        batch = {"input_ids": ids[drawn], "attention_mask": mask}
        replaced = [vars(layer).pop("forward") for layer in self._stored]
        try:
            with mode(model, training=False), torch.no_grad(), torch.autocast("cpu", enabled=False):
                unpadded = list(model(**batch).values())
                self._is_on = False
                plain = list(model(**batch).values())
        finally:
            self._is_on = True
            for layer, forward in zip(self._stored, replaced, strict=True):
                layer.forward = forward
        if not self.used:
            raise UnfitError("its layers read more than hidden states and a padding mask")
        for a, b in zip(unpadded, plain, strict=True):
            some = mask == 1 if a.shape[:2] == mask.shape else ...
            if not torch.allclose(a[some], b[some], rtol=_SAME, atol=_SAME):
                raise UnfitError("its outputs differ")

    def _begin(self, _: Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        before = _PLAN.get()
        while before is not None and before.config is self._config:  # it was interrupted
            before = before.before
        mask = args[self._place] if self._place < len(args) else kwargs.get("attention_mask")
        asked = ("output_hidden_states", "output_attentions")
        is_fit = (
            self._is_on
            and attention_of(self._config) == UNPADDED
            and not any(kwargs.get(name) or getattr(self._config, name, False) for name in asked)
            and not any(vars(m).get("gradient_checkpointing") for m in self._root.modules())
            and (mask is not None and mask.ndim == 2 and mask.device.type == "cpu")
        )
        _PLAN.set(self._plan(mask, before) if is_fit else before)

    def _plan(self, mask: Any, before: _Plan | None) -> _Plan | None:
        real = mask != 0
        lengths = real.sum(1).tolist()
        if min(lengths, default=0) in (0, real.shape[1]) or (real[:, 1:] & ~real[:, :-1]).any():
            return before
        parts = cut(lengths, _ANY, _BUCKET)
        order = torch.tensor([i for part in parts for i in part])
        flat = torch.arange(real.numel()).view(real.shape)[order][real[order]]
        buckets = [_Bucket([lengths[i] for i in part]) for part in parts]
        spare = _spare(len(flat))
        if spare:
            buckets.append(_Bucket([1] * spare))  # each attends to itself
        return _Plan(self._config, before, (len(real), real.shape[1]), flat, buckets, spare)

    def _end(self, _: Module, __: object, output: object) -> None:
        plan = _plan_of(self._config)
        if plan is None:
            return
        _PLAN.set(plan.before)
        if plan.is_unpadded and output is not None:  # None: it was interrupted
            raise UnfitError("its last layer was left out; expected training.unpadding=false")

    def _unpad(self, _: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plan = _plan_of(self._config)
        if plan is None or plan.is_unpadded or not args or len(plan.masks) != 1:
            return None
        hidden, *rest = args
        fits = all(x is plan.masks[0] for x in _tensors([rest, kwargs]))
        if not fits or plan.masks[0] is None or hidden.shape[:-1] != plan.shape:
            return None
        plan.is_unpadded = True
        self.used += 1
        unpadded = hidden.flatten(0, 1).index_select(0, plan.flat)
        unpadded = torch.nn.functional.pad(unpadded, (0, 0, 0, plan.spare))
        return (unpadded.unsqueeze(0), *rest), kwargs

    def _pad(self, _: Module, __: object, output: Any) -> Any:
        plan = _plan_of(self._config)
        if plan is None or not plan.is_unpadded:
            return None
        plan.is_unpadded = False
        hidden, *rest = output if isinstance(output, tuple) else (output,)
        whole = hidden.new_zeros(plan.shape[0] * plan.shape[1], hidden.shape[-1])
        hidden = hidden.squeeze(0)[: len(plan.flat)]
        whole = whole.index_copy_(0, plan.flat, hidden).unflatten(0, plan.shape)
        return (whole, *rest) if isinstance(output, tuple) else whole
