"""The config of a new model: what the user gives of it, and the rest from its tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.models.consistent import embeddings_for
from pipeline.models.faults import unbuildable, unknown_kind

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_MOST_LAYERS = 1_000  # each is built before the model's size is known
_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


def new_config(given: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Complete the config of a new model, and check that a model can be built from it.

    Raises:
        ConfigError: naming the key.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    valid = _check_keys(given)
    # A copy: transformers writes into nested values, and the config is a cache key.
    values = {**_token_values(tokenizer, valid), **copy.deepcopy(dict(given))}
    try:
        config: PretrainedConfig = AutoConfig.for_model(**values)
        with torch.device("meta"):  # no memory, and nothing is drawn
            model = AutoModel.from_config(config)
    # transformers' checks of a config and of its modules raise errors of any type.
    except Exception as error:
        raise ConfigError(f"model.from_config: {unbuildable(values, AutoModel, error)}.") from error
    _check_memory(model)
    if config.is_encoder_decoder and "decoder_start_token_id" not in given:
        config.decoder_start_token_id = _first(config.pad_token_id, tokenizer.pad_token_id)
    needed = embeddings_for(tokenizer)
    vocabulary = getattr(config, "vocab_size", needed)
    if vocabulary < needed:
        raise ConfigError(
            f"model.from_config.vocab_size={vocabulary}: expected at least the {needed} tokens of "
            "model.tokenizer, or leave vocab_size out to take their number."
        )
    return config


def _check_memory(model: PreTrainedModel) -> None:
    """Refuse a model whose weights this machine cannot hold."""
    import psutil

    count, total = sum(p.numel() for p in model.parameters()), psutil.virtual_memory().total
    if 4 * count > total:
        raise ConfigError(
            f"model.from_config: its {count:,} parameters take {4 * count / 2**30:,.0f} GiB, and "
            f"this machine has {total / 2**30:,.0f} GiB of memory; expected a smaller model."
        )


def _check_keys(given: Mapping[str, Any]) -> set[str]:
    """Return the keys of an architecture; refuse others, which transformers would ignore."""
    from transformers import CONFIG_MAPPING

    kind = given.get("model_type")
    if kind is None:
        raise ConfigError(
            "model.from_config: expected an architecture of transformers: "
            "model.from_config.model_type=bert"
        )
    if unknown := unknown_kind(kind):
        raise ConfigError(f"model.from_config.model_type={kind}: {unknown}")
    config = CONFIG_MAPPING[kind]()
    own = {key for key in vars(config) if not key.startswith("_")} - {"transformers_version"}
    valid = own | set(config.attribute_map) | {"model_type", *_TOKEN_IDS}
    for key in given:
        if "layer" in key and isinstance(given[key], int) and given[key] > _MOST_LAYERS:
            raise ConfigError(
                f"model.from_config.{key}={given[key]}: expected at most {_MOST_LAYERS:,}."
            )
        if key not in valid:
            raise ConfigError(
                f"model.from_config.{key}: a {kind} has no such key.{did_you_mean(key, valid)} "
                f"Valid: {listing(sorted(valid), most=60)}."
            )
    return valid


def _token_values(tokenizer: PreTrainedTokenizerBase, valid: set[str]) -> dict[str, Any]:
    """Return what a config says about its tokenizer; the classes' defaults describe another one."""
    end = _first(tokenizer.eos_token_id, tokenizer.sep_token_id)
    pads = tokenizer.pad_token_id != end  # else the end token's vector would be zero, and stay zero
    values = {
        "vocab_size": embeddings_for(tokenizer),
        "pad_token_id": tokenizer.pad_token_id if pads else None,
        "bos_token_id": _first(tokenizer.bos_token_id, tokenizer.cls_token_id),
        "eos_token_id": end,
        "forced_eos_token_id": end,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    return {key: value for key, value in values.items() if key in valid}


def _first(*ids: int | None) -> int | None:
    return next((i for i in ids if i is not None), None)
