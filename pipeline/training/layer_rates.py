"""Learning rates by depth: lower ones for lower layers, another one for a new head.

Lower layers hold what all tasks share, so they should change less (discriminative fine-tuning;
Howard and Ruder, 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError
from pipeline.models.adapters import layers_after, layers_of, new_head

if TYPE_CHECKING:
    from torch.nn import Module, Parameter
    from transformers import PretrainedConfig, PreTrainedModel

    from pipeline.config.optimizer import OptimizerConfig


def check_layer_decay(config: OptimizerConfig, model: PretrainedConfig) -> None:
    """Refuse a decay by layer for a model whose layers are not one stack.

    Raises:
        ConfigError: for an encoder and decoder.
    """
    if config.layer_decay != 1 and model.is_encoder_decoder:
        raise ConfigError(
            f"optimizer.layer_decay={config.layer_decay}: {model.model_type} has an encoder and a "
            "decoder; expected a model with one stack of layers, or optimizer.layer_decay=1.0."
        )


def rate_factors(config: OptimizerConfig, model: PreTrainedModel) -> dict[Parameter, float]:
    """Return by what the learning rate of each parameter is multiplied, where not by 1.

    The head has its own factor. The last layer, and what comes after it, has the learning rate
    itself; each layer below ``layer_decay`` times that of the one above it, the embeddings least.
    """
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
