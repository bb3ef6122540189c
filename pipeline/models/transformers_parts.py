"""Transformers' private parts: the only file that touches them, but for those of `Trainer`.

- ``AutoModel…._model_mapping``: which architectures an auto class has a model for. The public
  mappings have other names than the auto classes, so that each head would be listed here.
- ``PreTrainedConfig._attn_implementation``: the attention that a model computes; public is only
  the way to set it, ``set_attn_implementation``.
- ``_is_hf_initialized``: the mark of a module or parameter whose weights are not to be drawn.

Those of `Trainer` are in `pipeline.training.trainer`, its subclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def has_architecture(auto_class_name: str, config: PretrainedConfig) -> bool:
    """Return whether one of transformers' auto classes has a model of a config's architecture."""
    import transformers

    return type(config) in getattr(transformers, auto_class_name)._model_mapping


def model_class(config: PretrainedConfig) -> object:
    """Return the class of the model without a head for a config's architecture, if it has one."""
    from transformers import AutoModel

    return AutoModel._model_mapping.get(type(config), None)


def config_class_of(model: object) -> type[PretrainedConfig] | None:
    """Return the class of the configs of a model's class; None for anything else."""
    try:
        found: type[PretrainedConfig] | None = getattr(model, "config_class", None)
    except ImportError:  # a class whose packages are not installed
        return None
    return found


def attention_of(config: PretrainedConfig) -> str:
    """Return the name of the attention that a model computes: ``sdpa``, ``eager``."""
    name: str = config._attn_implementation
    return name


def drawn(model: PreTrainedModel) -> list[str]:
    """Return the parameters that were not read, by name."""
    marked = "_is_hf_initialized"
    return [name for name, p in model.named_parameters() if not getattr(p, marked, False)]


def unmark(model: PreTrainedModel) -> None:
    """Have `initialize_weights` draw a model's modules again; parameters that were read stay."""
    for module in model.modules():
        module.__dict__.pop("_is_hf_initialized", None)
