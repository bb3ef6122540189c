"""This machine's speed and precision, and the operations that a model needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

from pipeline.common.contract import Precision
from pipeline.config.experiment import Experiment
from pipeline.config.training import TrainingConfig
from pipeline.models.batches import autocast, call_tokens
from pipeline.training.determinism import repeatable
from pipeline.training.microbatches import MicroBatches
from pipeline.training.optimizer import build_optimizer
from pipeline.training.starting_rate import optimizer_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from pipeline.tasks.base import Batch, Examples, Task

# Hidden size from which a step of any batch is faster in bfloat16. On a processor with AVX-512
# BF16, at 32, 64, 128, 192 and 256, float32 took 0.6, 0.8, 1.0, 1.2 and 1.3 times as long with 8
# texts of 16 tokens, and 0.5, 0.5, 1.7, 1.6 and 2.3 times with 16 texts of 32.
WIDE = 192
REPEATS = 3
SLOW = 1.0  # seconds of one product: what takes as long is not emulated faster the next time
LENGTHS = 3  # at which operations are counted; between them they are interpolated


def where(training: TrainingConfig) -> dict[str, Any]:
    """Return what timings depend on besides the processor and the computation."""
    name = device_here().type
    gpu = torch.cuda.get_device_name() if name == "cuda" else name
    threads = training.threads if name == "cpu" else None
    return {"torch": torch.__version__, "device": gpu, "threads": threads}


def device_here() -> torch.device:
    """Return the device that runs compute on."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def memory_bytes() -> int:
    """Return the most that this process has allocated on the GPU, or on a CPU what it now holds."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def matmul_rate(training: TrainingConfig) -> float:
    """Measure the floating-point operations a second of a matrix product: the best of several.

    One is enough where it takes long: a processor that emulates bfloat16 took 70 s for all of them.
    """
    device = device_here()
    kind = getattr(torch, training.precision)
    best = 0.0
    with repeatable(training):
        for size in (1024, 1536) if device.type == "cpu" else (4096, 8192):
            matrix = torch.randn(size, size, device=device).to(kind)
            for _ in range(2 + REPEATS):  # the first ones build and warm up
                seconds = _seconds(partial(torch.mm, matrix, matrix))
                best = max(best, 2 * size**3 / seconds)
                if device.type == "cpu" and seconds > SLOW:
                    return best
    return best


def precision_here(models: Iterable[PretrainedConfig]) -> Precision:
    """Return the precision that ``training.precision=auto`` stands for.

    It is bfloat16 where this machine multiplies it natively and all models are wide enough to be
    faster in it. Nothing is timed: a busy machine gives the same answer.

    Args:
        models: configs of all models that are compared.
    """
    wide = all(getattr(m.get_text_config(), "hidden_size", 0) >= WIDE for m in models)
    return "bfloat16" if wide and _multiplies_bfloat16() else "float32"


def _multiplies_bfloat16() -> bool:
    """Whether the GPU (compute capability 8.0 on) or the processor multiplies it natively."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    flags = torch.cpu.get_capabilities()
    return device_here().type == "cpu" and bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


def step_seconds(
    experiment: Experiment,
    model: PreTrainedModel,
    task: Task[Any],
    batches: Sequence[Sequence[Mapping[str, Any]]],
    call: int | None = None,
) -> tuple[float, float]:
    """Time training steps, each as `FineTuner` runs it; the first batch only warms up.

    The model is thrown away afterwards; a call of it has a fixed cost in tokens, None: the default.

    Returns:
        Seconds of forward and backward of a batch, and of the optimizer's step after it.
    """
    training = experiment.training
    device = device_here()
    model.to(device).train()
    micro = MicroBatches(task, training.micro_batch_tokens, call or call_tokens(model))
    optimizer = build_optimizer(optimizer_of(experiment), model, [])
    computing, stepping = [], []

    def compute(parts: Sequence[Batch]) -> None:
        for part in parts:
            batch = {name: value.to(device) for name, value in part.items()}
            with autocast(device, training.precision):
                outputs = task.forward(model, batch)
            torch.autograd.backward(outputs["loss"].sum())

    with repeatable(training):
        for examples in batches:
            parts = micro.make(examples)["micro_batches"]
            computing.append(_seconds(partial(compute, parts)))
            stepping.append(_seconds(optimizer.step))
            optimizer.zero_grad()
    return fmean(computing[1:]), fmean(stepping[1:])


def evaluation_seconds(
    experiment: Experiment, model: PreTrainedModel, task: Task[Any], examples: Examples
) -> float:
    """Time an evaluation of a split, texts that are generated included."""
    training, rows = experiment.training, experiment.evaluation.batch_size
    if rows is None and training.micro_batch_tokens is None:
        rows = training.batch_size
    model.to(device_here())
    assert training.precision != "auto"  # it is settled
    most, precision = training.micro_batch_tokens, training.precision
    infer = partial(task.infer, model, examples, rows, most, precision=precision)
    with repeatable(training):
        return _seconds(infer)


def _seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - began


class Operations:
    """The floating-point operations that a model needs for an example, by its length.

    They are counted on the model itself, so that frozen weights, adapters and heads are counted as
    they are; only matrix products and attention, without padding and generated text.
    """

    def __init__(self, model: PreTrainedModel, task: Task[Any], examples: Examples) -> None:
        order = np.argsort(examples.lengths, kind="stable")
        places = np.linspace(0, len(order) - 1, min(LENGTHS, len(order))).astype(int)
        some = examples.dataset.__getitems__(order[places].tolist())
        self._lengths = np.array(examples.lengths)[order[places]]
        state = model.training
        try:
            counts = [_count(model, task, example) for example in some]
        finally:
            model.train(state)
            model.zero_grad()
        self._training, self._inference = np.array(counts, dtype=float).T

    def of_training(self, examples: Examples) -> float:
        """Return those of one pass over a split, forward and backward."""
        return float(np.interp(examples.lengths, self._lengths, self._training).sum())

    def of_evaluation(self, examples: Examples) -> float:
        """Return those of one pass over a split, forward."""
        return float(np.interp(examples.lengths, self._lengths, self._inference).sum())


def _count(
    model: PreTrainedModel, task: Task[Any], example: Mapping[str, Any]
) -> tuple[float, float]:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    batch = {name: value.to(model.device) for name, value in task.collate([example]).items()}
    counter = FlopCounterMode(display=False)
    # The counter does not know the attention kernel of the CPU.
    with sdpa_kernel(SDPBackend.MATH), torch.random.fork_rng():
        model.train()
        with counter:
            loss = task.forward(model, batch)["loss"].sum()
        forward = counter.get_total_flops()
        with counter:
            torch.autograd.backward(loss)
        backward = counter.get_total_flops()
    return float(forward + backward), float(forward)
