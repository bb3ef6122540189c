"""A BERT-like encoder layer in one step, for unpadded tokens on a CPU: both passes written out.

What transformers computes, in as many matrix products, without what autograd and autocast add: a
cast for each use of a tensor, masks for rows that do not occur, and a slow generator of dropout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import Dropout, LayerNorm, Linear, Module
from transformers.activations import GELUActivation

from pipeline.models.torch_parts import are_altered, softmax_backward

# Where a layer has its parts: those of BERT, RoBERTa, ELECTRA and XLM-R, and those of DistilBERT.
_PARTS = (
    {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attended": "attention.output.dense",
        "middle": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "activation": "intermediate.intermediate_act_fn",
        "down": "output.dense",
        "end": "output.LayerNorm",
        "of_attention": "attention.self.dropout",
        "of_attended": "attention.output.dropout",
        "of_down": "output.dropout",
    },
    {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attended": "attention.out_lin",
        "middle": "sa_layer_norm",
        "up": "ffn.lin1",
        "activation": "ffn.activation",
        "down": "ffn.lin2",
        "end": "output_layer_norm",
        "of_attention": "attention.dropout",
        "of_down": "ffn.dropout",
    },
)
_WEIGHTS = ("query", "key", "value", "attended", "middle", "up", "down", "end")
_PLAIN = (Linear, LayerNorm, Dropout, GELUActivation)
_MOST = 0.99  # of dropout
_SHORT = 64  # tokens; attention among fewer is in float32, where oneDNN makes no code for a shape
_LEVELS = 2**15  # of the random numbers of dropout: its rate is exact to 1/65,536


class Bucket(Protocol):
    """Examples that attend together: their tokens lie in a row."""

    tokens: int
    shape: tuple[int, int]  # examples, and tokens of the longest
    index: Tensor | None  # where the tokens are among padded ones; None: there is no padding
    mask: Tensor | None  # of the keys that are not padding, [examples, 1, 1, tokens]


@dataclass(frozen=True)
class FusedLayer:
    """What a layer computes of unpadded tokens, in training and without."""

    parts: dict[str, Any]  # modules
    heads: int
    scaling: float

    @classmethod
    def of(cls, layer: Module) -> FusedLayer | None:
        """Read a layer as it is now; None if it is of another kind, or contains more."""
        for names in _PARTS:
            try:
                parts = {part: attrgetter(name)(layer) for part, name in names.items()}
                attention = attrgetter(names["query"].rpartition(".")[0])(layer)
                heads = getattr(attention, "num_attention_heads", None) or attention.n_heads
                made = cls(parts, heads, attention.scaling)
            except AttributeError:
                continue
            return made if made._is_plain and not _is_altered(layer) else None
        return None

    @property
    def _is_plain(self) -> bool:
        """Whether the parts are as transformers builds them: without adapters."""
        return all(
            type(part) in _PLAIN and getattr(part, "p", 0.0) < _MOST for part in self.parts.values()
        ) and all(len(list(self.parts[name].parameters())) == 2 for name in _WEIGHTS)

    def __call__(self, hidden: Tensor, buckets: Sequence[Bucket]) -> Tensor:
        """Map hidden states to hidden states, both [1, tokens, width]."""
        weights = [w for name in _WEIGHTS for w in self.parts[name].parameters()]
        given = hidden[0], self._settings(), buckets, *weights
        output: Tensor = _Layer.apply(*given)  # type: ignore[no-untyped-call]
        return output.unsqueeze(0)

    def _settings(self) -> _Settings:
        is_on = torch.is_autocast_enabled("cpu")
        rates = {name: self._rate(name) for name in ("of_attention", "of_attended", "of_down")}
        return _Settings(
            dtype=torch.get_autocast_dtype("cpu") if is_on else torch.float32,
            heads=self.heads,
            scaling=self.scaling,
            **rates,
            middle_eps=self.parts["middle"].eps,
            end_eps=self.parts["end"].eps,
            seed=int(torch.randint(2**62, ())) if any(rates.values()) else 0,
        )

    def _rate(self, name: str) -> float:
        dropout = self.parts.get(name)
        return dropout.p if isinstance(dropout, Dropout) and dropout.training else 0.0


def _is_altered(layer: Module) -> bool:
    """Return whether something inside a layer does more than its own forward."""
    _, *inside = layer.modules()
    return are_altered(inside)


@dataclass(frozen=True)
class _Settings:
    dtype: torch.dtype  # of matrix products
    heads: int
    scaling: float
    of_attention: float
    of_attended: float
    of_down: float
    middle_eps: float
    end_eps: float
    seed: int  # of dropout; drawn from torch's generator, whose state a checkpoint keeps


class _Kept:
    """What dropout keeps of a tensor: bits, which cost less than numbers."""

    def __init__(self, like: Tensor, rate: float, random: np.random.Generator) -> None:
        count = like.numel()
        drawn = random.integers(0, 2**64, -(-count // 4), dtype=np.uint64).view(np.int16)[:count]
        drawn &= np.int16(_LEVELS - 1)
        drawn -= np.int16(round(rate * _LEVELS))  # below zero, whose first bit is set: dropped
        drawn >>= np.int16(15)
        self._bits = torch.from_numpy(np.invert(drawn, out=drawn)).view(like.shape)

    def of(self, values: Tensor) -> Tensor:
        """Set what is dropped to zero, in place."""
        bits = self._bits if values.element_size() == 2 else self._bits.to(torch.int32)
        values.view(bits.dtype).bitwise_and_(bits)
        return values


class _Layer(torch.autograd.Function):
    """Attention, its projection, and two more: each added to its input, and normalised."""

    @staticmethod
    @torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any, x: Tensor, settings: _Settings, buckets: Sequence[Bucket], *weights: Tensor
    ) -> Tensor:
        query, query_b, key, key_b, value, value_b, attended, attended_b = weights[:8]
        middle, middle_b, up, up_b, down, down_b, end, end_b = weights[8:]
        dtype, width = settings.dtype, [x.shape[1]]
        random = np.random.Generator(np.random.SFC64(settings.seed))

        # Queries are scaled by their weights.
        scaled = query * settings.scaling, query_b * settings.scaling
        w_qkv = torch.cat([w.to(dtype) for w in (scaled[0], key, value)])
        b_qkv = torch.cat([b.to(dtype) for b in (scaled[1], key_b, value_b)])
        w_attended, w_up, w_down = (w.to(dtype) for w in (attended, up, down))
        x_c = x.to(dtype)
        qkv = torch.addmm(b_qkv, x_c, w_qkv.t())
        attention = _Attention(settings, buckets, random)
        context = attention.forward(qkv)

        z = torch.addmm(attended_b.to(dtype), context, w_attended.t())
        kept_1 = _Kept(z, settings.of_attended, random) if settings.of_attended else None
        h_1 = _added(x, z, kept_1, settings.of_attended)
        y, *stats_1 = torch.native_layer_norm(h_1, width, middle, middle_b, settings.middle_eps)

        y_c = y.to(dtype)
        u = torch.addmm(up_b.to(dtype), y_c, w_up.t())
        a = torch.nn.functional.gelu(u)
        z = torch.addmm(down_b.to(dtype), a, w_down.t())
        kept_2 = _Kept(z, settings.of_down, random) if settings.of_down else None
        h_2 = _added(y, z, kept_2, settings.of_down)
        output, *stats_2 = torch.native_layer_norm(h_2, width, end, end_b, settings.end_eps)

        if any(ctx.needs_input_grad):
            ctx.settings, ctx.attention, ctx.kept = settings, attention, (kept_1, kept_2)
            ctx.save_for_backward(
                *(x_c, context, h_1, y_c, u, a, h_2, *stats_1, *stats_2),
                *(w_qkv, w_attended, w_up, w_down, middle, middle_b, end, end_b),
            )
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    @torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        x_c, context, h_1, y_c, u, a, h_2, *rest = ctx.saved_tensors
        mean_1, rstd_1, mean_2, rstd_2, w_qkv, w_attended, w_up, w_down, *norms = rest
        middle, middle_b, end, end_b = norms
        settings, (kept_1, kept_2) = ctx.settings, ctx.kept
        width, every = [h_1.shape[1]], [True, True, True]
        norm = torch.ops.aten.native_layer_norm_backward

        d_h_2, *d_end = norm(gradient.contiguous(), h_2, width, mean_2, rstd_2, end, end_b, every)
        d_z = _scaled(d_h_2, kept_2, settings.of_down, settings.dtype)
        d_down = _of_linear(d_z, a)
        d_u = torch.ops.aten.gelu_backward(d_z @ w_down, u)
        d_up = _of_linear(d_u, y_c)
        d_y = d_h_2.add_(d_u @ w_up)

        d_h_1, *d_middle = norm(d_y, h_1, width, mean_1, rstd_1, middle, middle_b, every)
        d_z = _scaled(d_h_1, kept_1, settings.of_attended, settings.dtype)
        d_attended = _of_linear(d_z, context)
        d_qkv = ctx.attention.backward(d_z @ w_attended)
        d_w, d_b = _of_linear(d_qkv, x_c)
        d_x = d_h_1.add_(d_qkv @ w_qkv)

        parts = [part for pair in zip(d_w.chunk(3), d_b.chunk(3), strict=True) for part in pair]
        for part in parts[:2]:
            part.mul_(settings.scaling)
        return d_x, None, None, *parts, *d_attended, *d_middle, *d_up, *d_down, *d_end


class _Attention:
    """Attention among the tokens of each example, bucket by bucket; remembers what it computed."""

    def __init__(
        self, settings: _Settings, buckets: Sequence[Bucket], random: np.random.Generator
    ) -> None:
        self._heads, self._rate, self._dtype = settings.heads, settings.of_attention, settings.dtype
        self._buckets, self._random = buckets, random
        self._computed: list[tuple[Tensor, Tensor, _Kept | None]] = []

    def forward(self, qkv: Tensor) -> Tensor:
        """Return contexts, [tokens, width], of queries, keys and values, [tokens, 3 · width]."""
        context = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        for bucket, given, result in self._by_bucket(qkv, context):
            parts = self._split(bucket, given, 3)
            query, key, value = parts
            scores = torch.bmm(query, key.transpose(1, 2))
            if bucket.mask is not None:
                bias = torch.zeros_like(bucket.mask, dtype=scores.dtype)
                bias.masked_fill_(~bucket.mask, -math.inf)
                scores.view(-1, self._heads, *scores.shape[1:]).add_(bias)
            shares = torch.softmax(scores, -1)
            kept = _Kept(shares, self._rate, self._random) if self._rate else None
            found = torch.bmm(_dropped(shares, kept), value)
            if self._rate:
                found.mul_(1 / (1 - self._rate))
            self._computed.append((parts, shares, kept))
            self._join(bucket, found.unsqueeze(0), result)
        return context

    def backward(self, d_context: Tensor) -> Tensor:
        """Return the gradient of queries, keys and values from that of the contexts."""
        d_qkv = d_context.new_empty(len(d_context), 3 * d_context.shape[1])
        of_buckets = self._by_bucket(d_context, d_qkv)
        for (bucket, given, result), computed in zip(of_buckets, self._computed, strict=True):
            parts, shares, kept = computed
            query, key, value = parts
            (gradient,) = self._split(bucket, given, 1)
            if self._rate:
                gradient = gradient * (1 / (1 - self._rate))
            found = torch.empty_like(parts)
            d_shares = torch.bmm(gradient, value.transpose(1, 2))
            if kept is not None:
                kept.of(d_shares)
            d_scores = softmax_backward(d_shares, shares, -1, shares.dtype)
            torch.bmm(d_scores, key, out=found[0])
            torch.bmm(d_scores.transpose(1, 2), query, out=found[1])
            torch.bmm(_dropped(shares, kept).transpose(1, 2), gradient, out=found[2])
            self._join(bucket, found, result)
        return d_qkv

    def _by_bucket(self, *tensors: Tensor) -> zip[tuple[Any, ...]]:
        sizes = [bucket.tokens for bucket in self._buckets]
        return zip(self._buckets, *(torch.split(t, sizes) for t in tensors), strict=True)

    def _split(self, bucket: Bucket, rows: Tensor, count: int) -> Tensor:
        """Bring tokens, [tokens, count · width], to [count, examples · heads, tokens, width]."""
        (examples, longest), index = bucket.shape, bucket.index
        if index is not None:
            rows = rows.new_zeros(examples * longest, rows.shape[1]).index_copy_(0, index, rows)
        apart = rows.view(examples, longest, count, self._heads, -1).permute(2, 0, 3, 1, 4)
        dtype = torch.float32 if longest < _SHORT else self._dtype
        return apart.to(dtype).reshape(count, examples * self._heads, longest, -1)

    def _join(self, bucket: Bucket, parts: Tensor, result: Tensor) -> None:
        """Undo `_split`, into a tensor."""
        (examples, longest), index = bucket.shape, bucket.index
        apart = parts.to(result.dtype).view(len(parts), examples, self._heads, longest, -1)
        rows = apart.permute(1, 3, 0, 2, 4)
        if index is None:
            result.view(rows.shape).copy_(rows)
        else:
            torch.index_select(rows.reshape(examples * longest, -1), 0, index, out=result)


def _dropped(values: Tensor, kept: _Kept | None) -> Tensor:
    return values if kept is None else kept.of(values.clone())


def _added(x: Tensor, z: Tensor, kept: _Kept | None, rate: float) -> Tensor:
    """Add what dropout keeps of z, scaled as it does."""
    return x + z if kept is None else torch.add(x, kept.of(z), alpha=1 / (1 - rate))


def _scaled(gradient: Tensor, kept: _Kept | None, rate: float, dtype: torch.dtype) -> Tensor:
    """Return the gradient of z in `_added`, of that of the sum."""
    if kept is None:
        return gradient.to(dtype)
    return kept.of((gradient * (1 / (1 - rate))).to(dtype))


def _of_linear(gradient: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of a projection's weight and bias, in float32."""
    return (gradient.t() @ x).float(), gradient.sum(0, dtype=torch.float32)
