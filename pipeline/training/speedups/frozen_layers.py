"""Frozen layers are computed once for all trials that have the same ones.

If the first layers and everything before them are frozen, their output for an example is the same
at every step, in every epoch and trial. It is computed once, stored unpadded, and passed to the
first trained layer. It equals a fresh computation but for the last bits: with other padding, sums
round differently.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.models.frozen import frozen_layers, quiet
from pipeline.training.speedups.activation_maker import Maker
from pipeline.training.speedups.activations import (
    TORCH,
    Form,
    Store,
    Stored,
    common_key,
    digest_of,
    inputs_digest,
    token_offsets,
)
from pipeline.training.speedups.replaced import (
    NoActivationsError,
    Slot,
    UnfitError,
    replace,
    restore,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from pipeline.tasks.base import Batch, Examples, Task

log = logging.getLogger(__name__)

STORED = "stored"  # column: an example's position in what is stored
_GIVEN = "frozen_activations"  # of a batch, [examples, tokens, width]
_MOST_BYTES = 20 * 2**30  # of all that is stored
_OVERHEAD = 1.1  # of a pass whose result is written, against one that is not
_VALIDATION_SHARE = 0.1  # its rows, by those of training


def pays(epochs: float, evaluations: int, *, in_sweep: bool) -> bool:
    """Return whether storing costs less than computing the frozen layers whenever they are needed.

    That is at each pass over the training and the validation split, and in other trials of a sweep.
    """
    each_time = epochs + evaluations * _VALIDATION_SHARE
    return in_sweep or each_time > (1 + _VALIDATION_SHARE) * _OVERHEAD


class FrozenLayers:
    """A model whose frozen layers are replaced by their activations, and the way back.

    Its ``examples`` have a column that says where each is stored; ``stored`` has their order.
    """

    def __init__(
        self,
        task: Task[Any],
        examples: Mapping[str, Examples],
        stored: Sequence[Stored],
        layers: Sequence[Module],
        form: Form,
    ) -> None:
        self._task = task
        self._stored = stored
        self._first = np.cumsum([0, *(len(of.offsets) - 1 for of in stored)])[:-1]
        self._layers = tuple(layers)
        self._form = form
        self._slot = Slot()
        placed = map(_placed, examples.values(), self._first.tolist())
        self.examples = dict(zip(examples, placed, strict=True))
        replace(self._layers, form.tuples, self._slot)

    @property
    def task(self) -> Task[Any]:
        """The task, whose batches bring their activations and whose forward uses them."""
        made = copy.copy(self._task)
        made.collate = self.collate  # type: ignore[method-assign]
        made.forward = self.forward  # type: ignore[method-assign]
        return made

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        """Build a batch of examples of this cache, padded to the longest, with its activations.

        Raises:
            NoActivationsError: for other examples.
        """
        if any(STORED not in example for example in examples):
            raise NoActivationsError("these examples are not those of the frozen-layer cache.")
        plain = [{k: v for k, v in example.items() if k != STORED} for example in examples]
        batch = self._task.collate(plain)
        places = [example[STORED] for example in examples]
        return {**batch, _GIVEN: self._padded(places, batch["input_ids"].shape[1])}

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
        """Return what the task's forward does.

        Raises:
            NoActivationsError: for a batch that `collate` did not make.
        """
        plain = {name: value for name, value in batch.items() if name != _GIVEN}
        self._slot.given = batch.get(_GIVEN)
        try:
            return self._task.forward(model, plain)
        finally:
            self._slot.given = None

    def restore(self) -> None:
        """Put the model's own layers back; call it before the model is saved or used."""
        restore(self._layers)
        self._layers = ()

    def _padded(self, places: Sequence[int], longest: int) -> Tensor:
        """Read what is stored at some places, of shape [places, longest, width]."""
        array = np.zeros((len(places), longest, self._form.width), self._form.numpy)
        splits = np.searchsorted(self._first, places, side="right") - 1
        for i, (place, split) in enumerate(zip(places, splits, strict=True)):
            of, k = self._stored[split], place - self._first[split]
            start, end = of.offsets[k : k + 2]
            array[i, : end - start] = of.values[start:end]
        return torch.from_numpy(array).view(TORCH[self._form.dtype])


def reuse_frozen_layers(
    model: PreTrainedModel,
    task: Task[Any],
    examples: Mapping[str, Examples],
    folder: Path,
    key_parts: Mapping[str, Any],
    precision: str,
    most_bytes: int = _MOST_BYTES,
) -> FrozenLayers | None:
    """Replace a model's frozen layers by their activations for some splits, computed if missing.

    Not for tasks whose model generates (`Task.generate`), nor for encoder-decoders. The model
    is moved to the accelerator if there is one. Other processes wait while one computes.

    Args:
        model: as it is about to be trained; its dropout is made `quiet`.
        task: that encoded the examples; it passes the model what `collate` returns, unchanged.
        examples: the splits by name.
        folder: where it is stored, for all runs.
        key_parts: what else the activations depend on; weights, config, tokens, versions and the
            kind of device are included here.
        precision: "float32", or "bfloat16" for autocast.
        most_bytes: of the folder; the least recently used entries make room.

    Returns:
        None if it is impossible, inexact or lacks room: logs why, leaves the model unchanged.
    """
    found = frozen_layers(model)
    if found is None or not all(len(of.dataset) for of in examples.values()):
        return None
    quiet(model)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    layers, weights = found
    key = common_key(model, [weights, len(layers)], key_parts, precision)
    wanted = [
        Stored(digest_of([key, inputs_digest(of.dataset)]), token_offsets(of.dataset))
        for of in examples.values()
    ]
    try:
        maker = Maker(model, task, layers, precision)
        form = _stored(Store(folder, most_bytes), wanted, list(examples.values()), maker)
    except UnfitError as error:
        log.info("the frozen-layer cache is off: %s", error)
        return None
    except (OSError, NotImplementedError) as error:  # of the disk, or of its locks
        log.warning("the frozen-layer cache is off: %s: %s", folder, error)
        return None
    return None if form is None else FrozenLayers(task, examples, wanted, layers, form)


def _stored(
    store: Store, wanted: Sequence[Stored], splits: Sequence[Examples], maker: Maker
) -> Form | None:
    """Compute missing splits and map all of them into memory; None: no room."""
    missing = [i for i, one in enumerate(wanted) if store.form(one) is None]
    computed = 0
    if missing:
        form = maker.form(splits[missing[0]])
        if not store.has_room(form, wanted, [wanted[i] for i in missing]):
            return None
        computed = sum(
            store.make(wanted[i], form, partial(maker.write, splits[i], form)) for i in missing
        )
    log.info(
        "the output of %d frozen layers is read from %s; computed now: %d of %d splits",
        len(maker.layers),
        store.folder,
        computed,
        len(wanted),
    )
    return store.read(wanted)


def _placed(examples: Examples, first: int) -> Examples:
    """Return a split, and its stored tokens, with the column of where examples are stored."""
    places = np.arange(first, first + len(examples.dataset))
    placed = copy.copy(examples)
    vars(placed)["dataset"] = examples.dataset.add_column(STORED, places)
    return placed
