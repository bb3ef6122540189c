"""Learning rates by depth: lower ones for lower layers, another one for a new head.

Lower layers hold what all tasks share, so they should change less (discriminative fine-tuning;
Howard and Ruder, 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError
from pipeline.models.adapters import has_layers, is_adapter, layers_after, layers_of, new_head

if TYPE_CHECKING:
    from torch.nn import Module, Parameter
    from transformers import PreTrainedModel

    from pipeline.config.optimizer import OptimizerConfig


def check_rates(config: OptimizerConfig, model: PreTrainedModel) -> None:
    """Refuse a decay by layer without one stack of layers, and a multiplier without a new head.

    Raises:
        ConfigError: for a model without what a rate is for.
    """
    kind, decay, multiplier = type(model).__name__, config.layer_decay, config.head_multiplier
    if decay != 1 and (model.config.is_encoder_decoder or not has_layers(model.base_model)):
        raise ConfigError(
            f"optimizer.layer_decay={decay}: the layers of {kind} are not one stack; expected "
            "optimizer.layer_decay=1.0, or another model."
        )
    if multiplier != 1 and not new_head(model):
        raise ConfigError(
            f"optimizer.head_multiplier={multiplier}: {kind} has no new head, its last layer is "
            "pre-trained; expected optimizer.head_multiplier=1.0."
        )


def rate_factors(config: OptimizerConfig, model: PreTrainedModel) -> dict[Parameter, float]:
    """Return by what the learning rate of each parameter is multiplied, where not by 1.

    The head has its own factor. The last layer, and what comes after it, has the learning rate
    itself; each layer below ``layer_decay`` times that of the one above it, the embeddings least.
    """
    if is_adapter(model):
        model = model.get_base_model()
    factors: dict[Parameter, float] = {}
    if config.layer_decay != 1:
        base: Module = model.base_model
        place, layers = layers_of(base)
        factors = dict.fromkeys(base.parameters(), config.layer_decay ** len(layers))
        for above, layer in enumerate(reversed(layers)):
            factors |= dict.fromkeys(layer.parameters(), config.layer_decay**above)
        for module in layers_after(base, place):
            factors |= dict.fromkeys(module.parameters(), 1.0)
    if config.head_multiplier != 1:
        for name in new_head(model):
            head = model.get_submodule(name)
            factors |= dict.fromkeys(head.parameters(), config.head_multiplier)
    return factors
