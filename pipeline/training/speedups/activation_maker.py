"""Computes the activations of frozen layers, and checks that they can replace the layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.models.batches import autocast, call_tokens, cut
from pipeline.models.frozen import mode
from pipeline.training.speedups.activations import (
    TORCH,
    Form,
    checked_states,
    form_of,
    hidden_states,
    token_offsets,
)
from pipeline.training.speedups.replaced import Slot, UnfitError, replace, restore

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from pipeline.tasks.base import Batch, Examples, Task

_TOKENS, _EXAMPLES = 16_384, 64  # at once: fixed, so that the bits are
_SAME = 1e-4  # relative error of a vector; where padding is read it is greater
_TRIED = 4  # lengths


class Maker:
    """Computes the activations of a model's frozen layers."""

    def __init__(
        self, model: PreTrainedModel, task: Task[Any], layers: Sequence[Module], precision: str
    ) -> None:
        self._model = model
        self._task = task
        self.layers = layers
        if any("forward" in vars(layer) for layer in layers):
            raise UnfitError("one has a custom forward")
        self._precision = precision

    def form(self, examples: Examples) -> Form:
        """Try a few lengths, and return the form of the layers' output.

        Raises:
            UnfitError: if what is stored would not be exact.
        """
        offsets = token_offsets(examples.dataset)
        _, firsts = np.unique(np.diff(offsets), return_index=True)  # an example of each length
        some = [firsts[i] for i in {*np.linspace(0, len(firsts) - 1, _TRIED).astype(int)}]
        alone: list[Tensor] = []
        for i in some:
            outputs = self._outputs(self.layers, self._batch(examples, [i]), "float32")
            form = form_of(outputs, len(self.layers))
            alone.append(checked_states(outputs[-1][1], 1, int(offsets[i + 1] - offsets[i]))[0])
        batch = self._batch(examples, some)
        self._compare(batch, alone, form)
        if self._precision == "float32":
            return form
        return form_of(self._outputs(self.layers, batch, self._precision), len(self.layers))

    def write(self, examples: Examples, form: Form, path: Path) -> None:
        """Write the activations of all tokens of a split, one example after the other."""
        offsets = token_offsets(examples.dataset)
        lengths = np.diff(offsets)
        last, dtype = self.layers[-1:], TORCH[form.dtype]
        with path.open("wb") as file:
            for some in cut(lengths.tolist(), _TOKENS, call_tokens(self._model), _EXAMPLES):
                batch = self._batch(examples, some)
                ((_, output),) = self._outputs(last, batch, self._precision)
                vectors = (
                    checked_states(output, *batch["input_ids"].shape).to("cpu", dtype).contiguous()
                )
                array = vectors.view(torch.from_numpy(np.empty(0, form.numpy)).dtype).numpy()
                for i, row in zip(some, array, strict=True):
                    file.seek(int(offsets[i]) * form.token_bytes)
                    file.write(row[: lengths[i]].data)
            file.flush()
            os.fsync(file.fileno())  # a machine that crashed would leave zeros

    def _batch(self, examples: Examples, some: Sequence[int]) -> Batch:
        batch = self._task.collate(examples.dataset.__getitems__(list(some)))
        return {name: value.to(self._model.device) for name, value in batch.items()}

    def _outputs(
        self, layers: Sequence[Module], batch: Batch, precision: str
    ) -> list[tuple[int, Any]]:
        """Compute up to the last of some layers; return the output of each call of one of them."""
        found: list[tuple[int, Any]] = []

        def note(place: int, _: Module, __: object, output: Any) -> None:
            found.append((place, output))
            if place == len(layers) - 1:
                raise _DoneError

        hooks = [x.register_forward_hook(partial(note, i)) for i, x in enumerate(layers)]
        in_precision = autocast(self._model.device, precision)
        with mode(self._model, training=False), torch.no_grad(), in_precision:
            try:
                self._task.forward(self._model, batch)
            except _DoneError:
                pass
            finally:
                for hook in hooks:
                    hook.remove()
        return found

    def _compare(self, batch: Batch, alone: Sequence[Tensor], form: Form) -> None:
        """Train on a batch with and without the layers.

        The two are compared in float32 and in training mode, with the same dropout. This reveals
        layers that read padding, are not a sequence, or still have dropout.

        ``alone`` is the last layer's output for each example by itself, [tokens, width].
        """
        found: list[Tensor] = []
        hook = self.layers[-1].register_forward_hook(
            lambda _, __, out: found.append(hidden_states(out))
        )
        with mode(self._model, training=True):
            try:
                plain = self._seeded(batch)
            finally:
                hook.remove()
            together = checked_states(found[0], *batch["input_ids"].shape)
            if together.requires_grad:
                raise UnfitError("what precedes them is trained")
            kept = torch.zeros_like(together)
            for i, vectors in enumerate(alone):
                same, size = together[i, : len(vectors)], vectors.norm(dim=-1)
                if ((same - vectors).norm(dim=-1) > _SAME * size).any():
                    raise UnfitError("their output for an example depends on its batch")
                kept[i, : len(vectors)] = same
            replace(self.layers, form.tuples, Slot(kept))
            try:
                given = self._seeded(batch)
            except Exception as error:  # a model that needs more of its layers may raise anything
                raise UnfitError(f"{type(error).__name__}: {error}") from error
            finally:
                restore(self.layers)
        for name, value in plain.items():
            if not torch.allclose(value.float(), given[name].float(), rtol=1e-4, atol=1e-6):
                raise UnfitError("later layers need more than their output, or they have dropout")

    def _seeded(self, batch: Batch) -> dict[str, Tensor]:
        device = self._model.device
        others = [] if device.type == "cpu" else [device]
        with torch.random.fork_rng(others, device_type=device.type):
            torch.manual_seed(0)
            outputs = self._task.forward(self._model, batch)
        return {name: value.detach() for name, value in outputs.items()}


class _DoneError(Exception):
    """The layers above the frozen ones need not be computed."""
