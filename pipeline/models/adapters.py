"""What of a model is trained: adapters next to frozen weights, only the head, or the top layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError
from pipeline.common.text import words
from pipeline.config.adapter import (
    AdapterConfig,
    FreezeConfig,
    FullConfig,
    HeadConfig,
    Ia3Config,
    LoraConfig,
)
from pipeline.models.targets import bodies_of, is_target, linear, targets_of
from pipeline.models.transformers_parts import has_architecture

if TYPE_CHECKING:
    from torch.nn import Module, ModuleList
    from transformers import PreTrainedModel

# Not quantized to 4 bits, by transformers' names: heads, whose full weights are trained.
_HEADS = words(
    "lm_head embed_out classifier pre_classifier score qa_outputs classification_head pooler head"
)
# After the last layer, outside all layers. Not included: deberta's LayerNorm, which belongs to the
# embeddings of relative positions.
_AFTER_LAYERS = words(
    "pooler norm norm_f ln_f final_norm final_layer_norm final_layernorm layer_norm"
)


def check_adapter(config: AdapterConfig) -> None:
    """Refuse an adapter that this machine cannot train; no weights are loaded for it.

    Raises:
        ConfigError: saying what is missing.
    """
    if config.name != "qlora":
        return
    import torch

    missing = []
    if find_spec("bitsandbytes") is None:
        missing.append("the package bitsandbytes is not installed (pip install bitsandbytes)")
    if not torch.cuda.is_available():
        missing.append(f"torch {torch.__version__} sees no CUDA GPU")
    if missing:
        raise ConfigError(
            f"adapter.name=qlora: {' and '.join(missing)}. Expected both, for weights in 4 bits; "
            "adapter=lora trains the same matrices next to 32-bit weights."
        )


def load_options(config: AdapterConfig) -> dict[str, Any]:
    """Return the options of `Checkpoint.load` that fit the adapter."""
    if config.name != "qlora":
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=sorted(_HEADS),
    )
    return {"quantization_config": quantization}


def new_head(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the modules that a task added to a model, by name.

    They have weights and are not in its base model. The output embedding is excluded: a language
    model's is pre-trained and often tied to the input embedding.
    """
    output = model.get_output_embeddings()
    base = _base_names(model)
    return tuple(
        name
        for name, child in model.named_children()
        if name not in base
        and any(True for _ in child.parameters())
        and not any(module is output for module in child.modules())
    )


def _base_names(model: PreTrainedModel) -> set[str]:
    """Return the names of a model's modules that belong to its base model."""
    import torch
    from transformers import AutoModel

    if model.base_model is not model:
        return {model.base_model_prefix}
    if not has_architecture("AutoModel", model.config):
        return {name for name, _ in model.named_children()}
    with torch.device("meta"):
        base = AutoModel.from_config(model.config)
    return {name for name, _ in base.named_children()}


def adapt(model: PreTrainedModel, config: AdapterConfig, head: Sequence[str]) -> PreTrainedModel:
    """Make a model train what the config says; new weights are drawn from torch's generator.

    The model is changed in place. Its `new_head` is always trained.

    Returns:
        A `PeftModel` if there is an adapter, else the model itself.

    Raises:
        ConfigError: if the model lacks what the adapter is for.
    """
    if isinstance(config, FullConfig):
        return model
    if isinstance(config, HeadConfig):
        return _train_head(model, head)
    if isinstance(config, FreezeConfig):
        return _train_top(model, config, head)
    return _inject(model, config, head)


def is_adapter(model: Module) -> bool:
    """Return whether a model has an adapter."""
    from peft import PeftModel

    return isinstance(model, PeftModel)


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return the plain model that computes the same; without an adapter, the model itself.

    The adapter is merged into the weights in place, so the given model cannot be used any more.
    4-bit weights stay 4-bit and are rounded again: for exact ones save the adapter and load it over
    the checkpoint.
    """
    if not is_adapter(model):
        return model
    plain: PreTrainedModel = model.merge_and_unload()
    return plain


def save_adapter(model: PreTrainedModel, folder: Path, base: str) -> None:
    """Save an adapter and the head in PEFT's own files.

    Args:
        model: a `PeftModel`.
        folder: a new one.
        base: what its base model was called, a folder of this machine or any other name; of a
            folder only its own name is written, since the adapter may be published.
    """
    name = Path(base).name if Path(base).is_dir() else base
    for config in model.peft_config.values():
        config.base_model_name_or_path = name
    # Else PEFT asks the hub whether the embeddings were resized.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # PEFT's own, with the base model's path


def load_adapter(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Load an adapter that `save_adapter` wrote over its base model, for inference."""
    import torch
    from peft import PeftModel

    with torch.random.fork_rng():  # the random weights are overwritten
        model: PreTrainedModel = PeftModel.from_pretrained(base, str(folder))
    return model


def _train_head(model: PreTrainedModel, head: Sequence[str]) -> PreTrainedModel:
    if not head:
        raise ConfigError(
            f"adapter.name=head: {type(model).__name__} has no new head, its last layer is "
            "pre-trained; expected adapter=lora, dora or ia3, adapter=freeze, or adapter=none."
        )
    model.requires_grad_(False)
    _train(model.get_submodule(name) for name in head)
    return model


def _train_top(
    model: PreTrainedModel, config: FreezeConfig, head: Sequence[str]
) -> PreTrainedModel:
    root: Module = model.base_model
    is_pair = hasattr(root, "encoder") and hasattr(root, "decoder")
    if is_pair:
        root = root.get_submodule("decoder")
    place, layers = layers_of(root)
    if config.trained_layers > len(layers):
        where = "decoder layers" if is_pair else "layers"
        raise ConfigError(
            f"adapter.trained_layers={config.trained_layers}: expected at most {len(layers)}, the "
            f"{where} of {type(model).__name__}; adapter=none trains all weights."
        )
    model.requires_grad_(False)
    _train(layers[len(layers) - config.trained_layers :])
    _train(layers_after(root, place))
    _train(model.get_submodule(name) for name in head)
    return model


def _train(modules: Iterable[Module]) -> None:
    for module in modules:
        module.requires_grad_(True)


def layers_of(root: Module) -> tuple[str, ModuleList]:
    """Find a model's layers: the longest module list that is not inside another."""
    lists = _lists(root)
    if not lists:
        raise ConfigError(
            f"adapter.name=freeze: {type(root).__name__} has no list of layers; expected "
            "adapter=head, lora or none."
        )
    return max(lists.items(), key=lambda found: len(found[1]))


def has_layers(root: Module) -> bool:
    """Whether a model has a list of layers."""
    return bool(_lists(root))


def _lists(root: Module) -> dict[str, ModuleList]:
    from torch.nn import ModuleList

    lists: dict[str, ModuleList] = {}
    for name, module in root.named_modules():
        if isinstance(module, ModuleList) and not any(name.startswith(f"{n}.") for n in lists):
            lists[name] = module
    return lists


def layers_after(root: Module, place: str) -> list[Module]:
    """Return the final norm and the pooler: siblings of the list of layers or of its parent."""
    parts = place.split(".")
    above = [root.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))]
    return [
        child
        for module in above
        for name, child in module.named_children()
        if name in _AFTER_LAYERS
    ]


def _inject(
    model: PreTrainedModel, config: LoraConfig | Ia3Config, head: Sequence[str]
) -> PreTrainedModel:
    import peft
    from peft.utils import constants

    if config.name == "qlora":
        # No gradient checkpointing: it is slower, and not part of the method.
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    kind = model.config.model_type
    if isinstance(config, Ia3Config):
        usual = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
        targets = targets_of(model, config, usual.get(kind), head)
        scaled = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(kind, ())
        made = peft.IA3Config(
            **_shared(model, targets, head),
            feedforward_modules=[name for name in scaled if name in targets],
        )
    else:
        usual = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        made = peft.LoraConfig(
            **_shared(model, targets_of(model, config, usual.get(kind), head), head),
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            use_dora=config.name == "dora",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft's
        adapted: PreTrainedModel = peft.get_peft_model(model, made)
    return adapted


def _shared(
    model: PreTrainedModel, targets: list[str] | str, head: Sequence[str]
) -> dict[str, Any]:
    """Return the arguments that all of PEFT's configs take."""
    transposed = linear(model)
    matched = [name for name in bodies_of(model, head) if is_target(name, targets)]
    return {
        "target_modules": targets,  # PEFT skips those in the head, whose full weights are trained
        "modules_to_save": list(head) or None,
        "fan_in_fan_out": all(transposed[name] for name in matched),
        "task_type": _task_type(model),
    }


def _task_type(model: PreTrainedModel) -> str | None:
    """Return PEFT's name of a model's task, which decides the wrapper class.

    None for question answering: its class would not pass ``token_type_ids`` to the model.
    """
    from transformers.models.auto import modeling_auto as auto

    names: dict[str, Mapping[str, Any]] = {
        "SEQ_2_SEQ_LM": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "CAUSAL_LM": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "SEQ_CLS": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    }
    name = type(model).__name__
    return next((task for task, classes in names.items() if name in classes.values()), None)
