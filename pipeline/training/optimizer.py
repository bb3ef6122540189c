"""The optimizer and its learning-rate schedule, built from config."""

import inspect
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

import torch
from torch.nn import Parameter

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.text import words
from pipeline.config.optimizer import OptimizerConfig, ScheduleConfig
from pipeline.training.layer_rates import rate_factors

# torch.optim's names for our hyperparameters; all others have the same name.
_TORCH_NAMES = {"learning_rate": "lr", "beta1": "betas", "beta2": "betas"}

# torch.optim's arguments that are not offered, and why.
_CHOSEN_HERE = "how an optimizer computes is chosen here; leave it out"
_NOT_OURS = {
    "lr": "it is called optimizer.learning_rate here",
    "betas": "they are called optimizer.beta1 and optimizer.beta2 here",
    "maximize": "the loss is minimized; leave it out",
    "decoupled_weight_decay": "it is on wherever a class has it; leave it out",
    "params": "they are those of the model; leave it out",
    **dict.fromkeys(words("foreach fused capturable differentiable"), _CHOSEN_HERE),
}

# Classes of torch.optim that cannot train a whole model by micro-batches, and why.
_UNFIT = {
    "LBFGS": "it computes the loss again several times a step",
    "Muon": "it updates matrices only, and a model has biases and norms too",
    "Rprop": "it goes by the signs of gradients on all rows, not on a batch",
    "SparseAdam": "it takes sparse gradients only",
}

# The hyperparameters whose bounds the config checks.
_OURS = ("name", "layer_decay", "head_multiplier", "scale_with_batch", "others")
_CHECKED = [f.name for f in fields(OptimizerConfig) if f.name not in _OURS]

_FUSED = ("Adam", "AdamW", "SGD")  # that update all of a parameter in one pass, on any device


def check_optimizer(config: OptimizerConfig) -> None:
    """Refuse an optimizer that cannot be built, before there is a model to build it over.

    Raises:
        ConfigError: if torch.optim has no such class, or the class lacks a hyperparameter that
            is given or refuses its value.
    """
    names = [
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
        and name not in _UNFIT
    ]
    if config.name in _UNFIT:
        raise ConfigError(
            f"optimizer.name={config.name}: {_UNFIT[config.name]}. "
            f"Valid: {listing(names, most=20)}."
        )
    if config.name not in names:
        raise ConfigError(
            f"optimizer.name={config.name}: torch.optim has no such class."
            f"{did_you_mean(config.name, names)} Valid: {listing(names, most=20)}."
        )
    chosen = getattr(torch.optim, config.name)
    accepted = inspect.signature(chosen).parameters
    known = [key for key in _CHECKED if _TORCH_NAMES.get(key, key) in accepted]
    valid = list(dict.fromkeys([*known, *(key for key in accepted if key not in _NOT_OURS)]))
    for key in _given(config):
        if key in accepted and key in _NOT_OURS:
            raise ConfigError(f"optimizer.{key}: {_NOT_OURS[key]}.")
        if key not in valid:
            raise ConfigError(
                f"optimizer.{key}: {config.name} has no such hyperparameter."
                f"{did_you_mean(key, valid)} Valid: {listing(f'optimizer.{v}' for v in valid)}."
            )
    try:
        if config.name in _FUSED:
            _build_nothing(chosen, config)
        else:
            _build(chosen, config, {(1.0, True): [Parameter(torch.zeros(1, 1))]})
    except (TypeError, ValueError) as error:  # nesterov without momentum, Adafactor's pair of eps
        given = ", ".join(f"optimizer.{key}={value}" for key, value in _given(config).items())
        raise ConfigError(f"{given}: {config.name} refuses these values: {error}.") from error


def arguments(config: OptimizerConfig) -> dict[str, Any]:
    """Return the hyperparameters that are set, under torch.optim's names."""
    given = _given(config)
    if "beta1" in given or "beta2" in given:
        given["betas"] = (given.pop("beta1", 0.9), given.pop("beta2", 0.999))
    return {_TORCH_NAMES.get(key, key): value for key, value in given.items()}


def _given(config: OptimizerConfig) -> dict[str, Any]:
    """Return the hyperparameters that are set, under the user's names."""
    values = {**{key: getattr(config, key) for key in _CHECKED}, **config.others}
    return {key: value for key, value in values.items() if value is not None}


def build_optimizer(
    config: OptimizerConfig, model: torch.nn.Module, decayed: list[str]
) -> torch.optim.Optimizer:
    """Build the optimizer over the parameters that are trained.

    Weight decay applies to those named in ``decayed``: not to biases and norms. Parameters with the
    config's own learning rate come first: Trainer logs that of the first group.

    Raises:
        ConfigError: as `check_optimizer` does.
    """
    check_optimizer(config)
    factors = rate_factors(config, model)
    groups: dict[tuple[float, bool], list[Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[factors.get(parameter, 1.0), name in decayed].append(parameter)
    return _build(getattr(torch.optim, config.name), config, groups)


def _build(
    chosen: type[torch.optim.Optimizer],
    config: OptimizerConfig,
    groups: Mapping[tuple[float, bool], list[Parameter]],
) -> torch.optim.Optimizer:
    """Build one over parameters by the factor of their learning rate, and whether they decay."""
    given = arguments(config)
    if "decoupled_weight_decay" in inspect.signature(chosen).parameters:
        given["decoupled_weight_decay"] = True
    if chosen.__name__ in _FUSED:
        given["fused"] = True
    made = [
        {
            "params": groups[factor, is_decayed],
            **({} if factor == 1 else {"lr": factor * given["lr"]}),
            **({} if is_decayed else {"weight_decay": 0.0}),
        }
        for factor, is_decayed in sorted(groups, key=lambda g: (g[0] != 1, -g[0], not g[1]))
    ]
    return chosen(made, **given)


class _AcceptedError(Exception):
    """A class has accepted its hyperparameters, and asks for the parameters to train."""


def _build_nothing(chosen: type[torch.optim.Optimizer], config: OptimizerConfig) -> None:
    """Have an optimizer's class check hyperparameters; a real one would import torch._dynamo."""

    def asked() -> Iterator[Parameter]:
        raise _AcceptedError
        yield

    with suppress(_AcceptedError):
        chosen(asked(), **arguments(config))


def build_schedule(
    config: ScheduleConfig, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Build the learning-rate schedule of a run of so many optimizer steps."""
    from transformers import get_scheduler  # takes 2 s to import, which a check can save

    warmup = warmup_steps(config, steps)
    specific = {}
    if config.name == "warmup_stable_decay":
        # Both are rounded: together they could exceed a short run by one step.
        decay = min(round((config.decay or 0.0) * steps), steps - warmup)
        specific = {"num_decay_steps": decay, "decay_type": "linear"}
    schedule: torch.optim.lr_scheduler.LRScheduler = get_scheduler(
        "constant_with_warmup" if config.name == "constant" else config.name,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
        scheduler_specific_kwargs=specific,
    )
    return schedule


def warmup_steps(config: ScheduleConfig, steps: int) -> int:
    """Return the warm-up in steps; a share (a float) is of all steps, rounded up but for the last.

    Raises:
        ConfigError: if the warm-up is not shorter than the run, or what is left of the run is
            shorter than its decay.
    """
    if isinstance(config.warmup, float):
        return min(math.ceil(config.warmup * steps), max(steps - 1, 0))
    warmup = config.warmup
    if warmup >= steps > 0:
        raise ConfigError(
            f"schedule.warmup={warmup}: the run has {steps} steps; expected fewer for the "
            "warm-up. Write a share with a point: 0.1."
        )
    if config.decay is not None and warmup + config.decay * steps > steps > 0:
        raise ConfigError(
            f"schedule.warmup={warmup}: the run has {steps} steps; expected at most "
            f"what schedule.decay={config.decay:g} leaves of them, "
            f"{math.floor(steps - config.decay * steps)}."
        )
    return warmup
