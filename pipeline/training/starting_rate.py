"""The learning rate an optimizer gets: where ``auto`` begins, and what the batch size makes of it.

``auto`` is for fine-tuning with Adam: a family's rate, by a power of the model's size and the root
of the batch size, and ten times that for LoRA. docs/models.md has the sources, and how far off the
rule is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pipeline.common.errors import ConfigError, amount, listing
from pipeline.config.flat import AUTO, RATE
from pipeline.models import find_checkpoint

if TYPE_CHECKING:
    from pipeline.config.experiment import Experiment
    from pipeline.config.optimizer import OptimizerConfig

SCALE_BATCH = 16  # of ``optimizer.scale_with_batch``: there the learning rate is the one given
_SCALE = "optimizer.scale_with_batch=sqrt"
_ADAM = ("Adam", "AdamW", "NAdam")  # of which the rule's sources are, or whose step is as large
# Whose step does not grow with the gradient: √ of the batch size (Malladi et al., 2022).
_BY_ROOT = (*_ADAM, "RAdam", "RMSprop")


@dataclass(frozen=True)
class _Family:
    """The best rates of full fine-tuning, as a power of a model's size, and the sizes seen."""

    rate: float  # at this size and batch
    size: int  # the hidden size; where depths are known, layers × its square
    exponent: float
    batch: int
    widths: tuple[int, int]  # hidden sizes that were seen
    depths: tuple[int, int] | None = None  # numbers of layers likewise

    def full(self, width: int, layers: int, batch: int) -> float:
        """Return the rate of full fine-tuning."""
        size = layers * width**2 if self.depths else width
        return self.rate * math.pow(self.size / size, self.exponent) * math.sqrt(batch / self.batch)

    def unseen(self, width: int, layers: int) -> str:
        """Say what of a model is outside what was seen; empty where nothing is."""
        least, most = self.widths
        if not least <= width <= most:
            return f"hidden size {width}, and the rule is known for {least} to {most} only"
        least, most = self.depths or (layers, layers)
        if not least <= layers <= most:
            return f"{amount(layers, 'layer')}, and the rule is known for {least} to {most} only"
        return ""


def _encoder(rate: float) -> _Family:
    """Return a family on the exponent that 17 settings of five families have in common."""
    return _Family(rate, 12 * 768**2, 0.7, 16, (256, 1536), (6, 48))


_LLAMA = _Family(5e-5, 2000, 0.781, 128, (2048, 8192))  # Thinking Machines, tinker-cookbook
_QWEN = _Family(5e-5, 2000, 0.0775, 128, (2048, 5120))
_FAMILIES = {  # by transformers' name of the architecture
    "bert": _encoder(4.5e-5),
    "distilbert": _encoder(4.5e-5),
    "electra": _encoder(6.5e-5),
    "modernbert": _encoder(8.6e-5),
    "roberta": _encoder(1.9e-5),
    "xlm-roberta": _encoder(1.9e-5),
    "deberta": _encoder(1.0e-5),
    "deberta-v2": _encoder(1.0e-5),
    "llama": _LLAMA,
    "qwen2": _QWEN,
    "qwen3": _QWEN,
    "qwen3_moe": _QWEN,
}
_KINDS = {  # of training, each with the factor of its rate (Schulman et al., 2025)
    "none": ("full fine-tuning", 1),
    "lora": ("LoRA", 10),
    "dora": ("DoRA", 10),
    "qlora": ("QLoRA", 10),
}


class Note(NamedTuple):
    """What made a learning rate."""

    setting: str  # of the config that asked for it
    rate: float
    why: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.rate:.3g} ({self.why})"


def starting_rate(experiment: Experiment) -> Note:
    """Return the learning rate that ``auto`` stands for, to two digits; no weights are read.

    Where `optimizer.scale_with_batch` scales it by the batch size afterwards, the rate is that of
    its reference.

    Raises:
        ConfigError: for what no source speaks of, saying why.
        ModelError: for a model that cannot be found.
    """
    optimizer, adapter = experiment.optimizer, experiment.adapter.name
    if optimizer.name not in _ADAM:
        raise _refused(f"optimizer.name={optimizer.name} is not of Adam's kind ({listing(_ADAM)})")
    if adapter not in _KINDS:
        raise _refused(f"for adapter.name={adapter} there is no rule")
    checkpoint = find_checkpoint(experiment.model)
    model = checkpoint.config.model_type
    if checkpoint.is_new:
        raise _refused("model.from_config makes new weights, and the rule is for pre-trained ones")
    if model not in _FAMILIES:
        raise _refused(f"for the architecture {model} there is no rule, but for {_known()}")
    family, width = _FAMILIES[model], int(checkpoint.config.hidden_size)
    layers = int(checkpoint.config.num_hidden_layers)
    if unseen := family.unseen(width, layers):
        raise _refused(f"{model} has {unseen}")
    scales = optimizer.scale_with_batch == "sqrt"
    batch = SCALE_BATCH if scales else experiment.training.batch_size
    kind, factor = _KINDS[adapter]
    rate = factor * family.full(width, layers, batch)
    size = f"hidden size {width}" + (f", {amount(layers, 'layer')}" if family.depths else "")
    why = f"{kind}, {model}, {size}, batch {batch}"
    return Note(f"{RATE}={AUTO}", float(f"{rate:.1e}"), why)


def _known() -> str:
    return listing(_FAMILIES, most=len(_FAMILIES))


def _refused(why: str) -> ConfigError:
    return ConfigError(f"{RATE}={AUTO}: {why}; expected a number (optimizer=adamw has 5e-5).")


def optimizer_of(experiment: Experiment) -> OptimizerConfig:
    """Return the optimizer's config with the learning rate that it is built with: a number.

    Raises:
        ConfigError: where `starting_rate` does, and for an optimizer that no root scales.
    """
    notes = rate_notes(experiment)
    rate = notes[-1].rate if notes else experiment.optimizer.learning_rate
    return replace(experiment.optimizer, learning_rate=rate)


def rate_notes(experiment: Experiment) -> list[Note]:
    """Return what makes the learning rate another than the config has; the last one's holds.

    Raises:
        ConfigError: as `optimizer_of` does.
    """
    optimizer, batch = experiment.optimizer, experiment.training.batch_size
    notes = [starting_rate(experiment)] if optimizer.learning_rate == AUTO else []
    if optimizer.scale_with_batch == "none":
        return notes
    if optimizer.name not in _BY_ROOT:
        raise ConfigError(
            f"{_SCALE}: expected an optimizer whose step does not grow with the gradient "
            f"({listing(_BY_ROOT)}), found optimizer.name={optimizer.name}; expected "
            "optimizer.scale_with_batch=none."
        )
    given = notes[0].rate if notes else float(optimizer.learning_rate)
    rate = given * math.sqrt(batch / SCALE_BATCH)
    return [*notes, Note(_SCALE, rate, f"{given:g} × √({batch} / {SCALE_BATCH})")]


def said_of_rates(experiments: Sequence[Experiment]) -> list[str]:
    """Return what to say of these trials' learning rates, a line for each setting that makes them.

    Where they differ, the number is the first one's.

    Raises:
        ConfigError: as `optimizer_of` does.
    """
    notes = dict.fromkeys(note for one in experiments for note in rate_notes(one))
    lines = []
    for setting in dict.fromkeys(note.setting for note in notes):
        first, *others = [note for note in notes if note.setting == setting]
        lines.append(f"  {first}{'; in other trials by what they train' if others else ''}")
    return lines
