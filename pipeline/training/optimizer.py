"""The optimizer and its learning-rate schedule, built from config."""

import inspect
from dataclasses import asdict
from typing import Any

import torch
from transformers import get_scheduler

from pipeline.config import OptimizerConfig, ScheduleConfig
from pipeline.errors import ConfigError, did_you_mean, listing

# What torch.optim calls our hyperparameters; a name that is not here is the same there.
_TORCH_NAMES = {"learning_rate": "lr"}


def optimizer_class(config: OptimizerConfig) -> type[torch.optim.Optimizer]:
    """Return the class that the config names.

    Raises:
        ConfigError: where torch.optim has no such optimizer, or it lacks a given hyperparameter.
    """
    names = [
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    ]
    if config.name not in names:
        raise ConfigError(
            f"optimizer.name={config.name}: there is no such class in torch.optim."
            f"{did_you_mean(config.name, names)} Valid: {listing(names, most=20)}."
        )
    chosen: type[torch.optim.Optimizer] = getattr(torch.optim, config.name)
    accepted = inspect.signature(chosen).parameters
    for argument in arguments(config):
        if argument not in accepted:
            raise ConfigError(
                f"optimizer.{argument}: {config.name} has no such hyperparameter; it has "
                f"{listing(accepted, most=20)}."
            )
    return chosen


def arguments(config: OptimizerConfig) -> dict[str, Any]:
    """Return the hyperparameters that are set, under torch.optim's names."""
    given = {k: v for k, v in asdict(config).items() if k != "name" and v is not None}
    if "beta1" in given or "beta2" in given:
        given["betas"] = (given.pop("beta1", 0.9), given.pop("beta2", 0.999))
    return {_TORCH_NAMES.get(key, key): value for key, value in given.items()}


def build_optimizer(
    config: OptimizerConfig, model: torch.nn.Module, decayed: list[str]
) -> torch.optim.Optimizer:
    """Build the optimizer over the parameters that are trained.

    Args:
        config: class and hyperparameters.
        model: whose parameters to train.
        decayed: names of the parameters that weight decay applies to; not biases and norms.
    """
    chosen, given = optimizer_class(config), arguments(config)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained if name in decayed]},
        {"params": [p for name, p in trained if name not in decayed], "weight_decay": 0.0},
    ]
    if "decoupled_weight_decay" in inspect.signature(chosen).parameters:
        given["decoupled_weight_decay"] = True
    return chosen(groups, **given)


def build_schedule(
    config: ScheduleConfig, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Build the learning-rate schedule of a run.

    Args:
        config: shape, warm-up and decay.
        optimizer: whose rate moves.
        steps: optimizer steps of the whole run.
    """
    warmup = warmup_steps(config, steps)
    specific = {}
    if config.name == "warmup_stable_decay":
        decay = round((config.decay or 0.0) * steps)
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
    """Return the warm-up in steps; a share (a float) is of all steps, rounded up.

    Raises:
        ConfigError: where the warm-up is not shorter than the run.
    """
    warmup = config.warmup
    if isinstance(warmup, float):
        return -int(-warmup * steps // 1)
    if warmup >= steps > 0 and warmup > 0:
        raise ConfigError(
            f"schedule.warmup={warmup}: the whole run has {steps} steps; expected fewer for the "
            "warm-up. A share is written with a point: 0.1."
        )
    return warmup
