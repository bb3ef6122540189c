"""The active vocabulary: only the input embeddings that the data can reach are trained.

A row that no token id reaches has a zero gradient at every step, so that all an optimizer does to
it is to multiply it by 1 - lr * weight_decay. Such rows are left out of the gradient, the state of
the optimizer and all copies of the trained weights, and get the product of those factors at the
end.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from pipeline.config.optimizer import OptimizerConfig
from pipeline.models.torch_parts import is_hooked

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Ids = np.ndarray[Any, np.dtype[np.int64]]

log = logging.getLogger(__name__)

# Weight decay is decoupled: on a row without a gradient, w *= 1 - lr * weight_decay. Of these
# classes `build_optimizer` asks for that; Adafactor's statistics are of full columns.
_DECOUPLED = {"Adam", "AdamW", "NAdam", "RAdam"}
# Without weight decay a row without a gradient stays as it is; of ASGD's it does not.
STILL = {*_DECOUPLED, "Adadelta", "Adagrad", "Adamax", "RMSprop", "SGD"}
_MOST = 0.8  # of the rows; beyond that the second look-up costs more than it saves


class ActiveEmbedding(torch.nn.Embedding):
    """An embedding of some token ids, which looks up by the ids of the full vocabulary.

    ``weight`` is of shape [active, dim] and ``index``, each id's row in it, of shape [vocabulary].
    An id that is not active has a row past the end, so that looking it up raises.

    Args:
        full: the embedding that it stands for.
        ids: the active token ids, ascending, those of the padding among them.
    """

    index: torch.Tensor

    def __init__(self, full: torch.nn.Embedding, ids: Ids) -> None:
        padding, device = full.padding_idx, full.weight.device
        active = torch.from_numpy(ids).to(device)
        rows = full.weight.detach()[active]
        row = None if padding is None else int(np.searchsorted(ids, padding))
        super().__init__(len(ids), full.embedding_dim, padding_idx=row, _weight=rows)
        index = torch.full((full.num_embeddings,), len(ids), device=device)
        index[active] = torch.arange(len(ids), device=device)
        self.register_buffer("index", index, persistent=False)
        self.decay = 1.0  # the product of 1 - lr * weight_decay over the steps so far
        self._digest = float(zlib.crc32(ids.tobytes()))

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Look up token ids of any shape."""
        # Not index[token_ids], which would take a negative id for one at the end.
        rows = self.index.index_select(0, token_ids.flatten()).view(token_ids.shape)
        return super().forward(rows)

    def get_extra_state(self) -> torch.Tensor:
        """Return decay and digest of the ids, for the state dict.

        Not a buffer: that would move to the device, to be read by the host, and not all devices
        have float64.
        """
        return torch.tensor([self.decay, self._digest], dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore the decay that belongs to the loaded weights.

        Raises:
            RuntimeError: if they are of other token ids.
        """
        decay, digest = state.tolist()
        if digest != self._digest:
            raise RuntimeError("the state has embeddings of other token ids: the data differ")
        self.decay = decay


class ActiveVocabulary:
    """A model whose input embedding was reduced to some ids, and the way back to the full one."""

    def __init__(self, model: PreTrainedModel, name: str, ids: Ids) -> None:
        parent, _, self._name = name.rpartition(".")
        self._parent: torch.nn.Module = model.get_submodule(parent)
        self._ids = torch.from_numpy(ids)
        # Kept as it is: its memory is taken back with the model's, see `pipeline.models.weights`.
        self._full: torch.nn.Embedding = model.get_submodule(name)
        self._active = ActiveEmbedding(self._full, ids).train(self._full.training)
        setattr(self._parent, self._name, self._active)
        self._hook = register_optimizer_step_post_hook(self._note_decay)

    def _note_decay(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Note the weight decay of a step: of the optimizer that trains the embedding."""
        active = self._active
        for group in optimizer.param_groups:
            if any(p is active.weight for p in group["params"]):
                active.decay *= 1 - float(group["lr"]) * float(group["weight_decay"])

    @torch.no_grad()
    def restore(self) -> None:
        """Put the full embedding back into the model, on the model's device; once."""
        self._hook.remove()
        full, trained = self._full, self._active.weight
        weight = full.weight
        if self._active.decay != 1.0:
            weight.mul_(self._active.decay)
        weight.index_copy_(0, self._ids.to(weight.device), trained.to(weight.device))
        full.to(trained.device).train(self._active.training)
        setattr(self._parent, self._name, full)


def shrink(
    model: PreTrainedModel, token_ids: Ids, optimizer: OptimizerConfig
) -> ActiveVocabulary | None:
    """Leave the input embeddings that are not reached out of a model, in place.

    Args:
        model: before its optimizer is built; best before it moves to a device, since the rows that
            are left out stay where they are.
        token_ids: all that the data and the tokenizer can reach; those that the model's config
            names are added.
        optimizer: what the model is trained with.

    Returns:
        What restores it; None if this would not be exact, or would not pay.
    """
    still = _DECOUPLED if optimizer.weight_decay else STILL
    name = _place(model) if optimizer.name in still else None
    if name is None:
        return None
    embedding = model.get_submodule(name)
    ids = np.unique([*token_ids, *_own_ids(model, embedding)]).astype(np.int64)
    ids = ids[(ids >= 0) & (ids < embedding.num_embeddings)]
    if not 0 < len(ids) <= _MOST * embedding.num_embeddings:
        return None
    log.info("%d of %d token embeddings are trained", len(ids), embedding.num_embeddings)
    return ActiveVocabulary(model, name, ids)


def _place(model: PreTrainedModel) -> str | None:
    """Return the name of the input embedding if nothing but token look-up uses it."""
    # PEFT may hold a second copy, and code that a checkpoint brings may read the weight itself.
    if not type(model).__module__.startswith("transformers.models."):
        return None
    try:
        embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError:
        return None
    if output is not None or type(embedding) is not torch.nn.Embedding:  # others may scale
        return None
    weight = embedding.weight
    names = [n for n, m in model.named_modules(remove_duplicate=False) if m is embedding]
    sharing = [
        n
        for n, p in model.named_parameters(remove_duplicate=False)
        if p.data_ptr() == weight.data_ptr()
    ]
    is_plain = (
        weight.requires_grad
        and weight.dtype == torch.float32  # else the decay of each step may be rounded away
        and embedding.max_norm is None
        and not embedding.scale_grad_by_freq
        and not embedding.sparse
        and "forward" not in vars(embedding)
        and not is_hooked(embedding)
    )
    return names[0] if is_plain and len(names) == len(sharing) == 1 else None


def _own_ids(model: PreTrainedModel, embedding: torch.nn.Embedding) -> Iterator[int]:
    """Yield the token ids that a model looks up by itself, as some do to pad."""
    if embedding.padding_idx is not None:
        yield embedding.padding_idx
    for config in (model.config, model.config.get_text_config()):
        for key, value in vars(config).items():
            if key.endswith(("token_id", "token_index")):
                given = value if isinstance(value, list) else [value]
                yield from (i for i in given if isinstance(i, int))
