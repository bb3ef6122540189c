"""What makes training faster and leaves its results as they are, behind one door.

Each speedup is exact but for the last bits, or it is off: it checks the model first, and logs why
it does not apply. `apply` switches them on and undoes them; what trains knows none by name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.common.timing import booked
from pipeline.training.prepare import cache_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from pipeline.config.experiment import Experiment
    from pipeline.tasks.base import Examples, Task
    from pipeline.training.prepare import Prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accelerated:
    """A model, its task and its splits, as they are trained while speedups are on."""

    model: PreTrainedModel
    task: Task[Any]
    examples: Mapping[str, Examples]  # by split
    parameters: int  # of the whole model
    on: tuple[str, ...] = ()  # the speedups, by their keys in the config
    # The fixed cost of calling the model in training, in tokens; None: the default.
    call_tokens: int | None = None


@contextmanager
def apply(
    experiment: Experiment,
    model: PreTrainedModel,
    data: Prepared,
    more: Sequence[Dataset] = (),
    *,
    reuse: bool = True,
    in_sweep: bool = False,
) -> Iterator[Accelerated]:
    """Switch on the speedups that config and model allow; undo them at the end.

    The model is changed in place meanwhile. Besides the data it will read ``more``, encoded;
    ``reuse`` lets it use activations that another run stored, ``in_sweep`` other runs use its own.
    """
    with ExitStack() as undo:
        parameters = sum(p.numel() for p in model.parameters())
        fast = Accelerated(model, data.task, data.examples, parameters)
        fast = _active_vocabulary(experiment, fast, data, more, undo)
        if reuse:
            fast = _frozen_layer_cache(experiment, fast, in_sweep, undo)
        fast = _unpadding(experiment, fast, undo)
        log.info("speedups: %s", ", ".join(fast.on) or "none")
        yield fast


@booked("model")
def _active_vocabulary(
    experiment: Experiment,
    fast: Accelerated,
    data: Prepared,
    more: Sequence[Dataset],
    undo: ExitStack,
) -> Accelerated:
    """Leave out the embeddings that the data cannot reach."""
    if not experiment.training.active_vocabulary:
        return fast
    from pipeline.training.speedups.active_vocabulary import shrink

    vocabulary = shrink(fast.model, data.encoded.token_ids(more), experiment.optimizer)
    if vocabulary is None:
        return fast
    undo.callback(vocabulary.restore)
    return replace(fast, on=(*fast.on, "active_vocabulary"))


@booked("data")
def _frozen_layer_cache(
    experiment: Experiment, fast: Accelerated, in_sweep: bool, undo: ExitStack
) -> Accelerated:
    """Feed stored activations to the first trained layer, if it pays."""
    from pipeline.training.points import Length, evaluation_points

    training = experiment.training
    is_frozen = experiment.adapter.name in ("head", "freeze")
    # Activations of swapped texts are not in the cache.
    can = fast.task.reads_once and experiment.evaluation.counterfactual is None
    if not (training.frozen_layer_cache and is_frozen and can):
        return fast
    from pipeline.training.speedups.frozen_layers import pays, reuse_frozen_layers

    length = Length.of(training, len(fast.examples["train"].dataset))
    evaluations = len(evaluation_points(training, length))
    if not pays(length.epochs, evaluations, in_sweep=in_sweep):
        return fast
    folder = cache_of(experiment) / "frozen_layers"
    how = {"threads": training.threads, "deterministic": training.deterministic}
    frozen = reuse_frozen_layers(
        fast.model, fast.task, fast.examples, folder, how, training.precision
    )
    if frozen is None:
        return fast
    undo.callback(frozen.restore)
    on = (*fast.on, "frozen_layer_cache")
    return replace(fast, task=frozen.task, examples=frozen.examples, on=on)


@booked("model")
def _unpadding(experiment: Experiment, fast: Accelerated, undo: ExitStack) -> Accelerated:
    """Compute no padding, on a CPU."""
    import torch

    if not experiment.training.unpadding or torch.accelerator.is_available():
        return fast
    from pipeline.training.speedups.unpadding import CALL_TOKENS, unpad

    unpadding = unpad(fast.model)
    if unpadding is None:
        return fast
    undo.callback(unpadding.undo)
    return replace(fast, on=(*fast.on, "unpadding"), call_tokens=CALL_TOKENS)
