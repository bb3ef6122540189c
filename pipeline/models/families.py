"""The models of the menu by what they can do, and which heads transformers has for a model."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from pipeline.common.session import shared
from pipeline.config.flat import flatten
from pipeline.config.menu import choices
from pipeline.config.own_files import read_mapping
from pipeline.models.transformers_parts import has_architecture

if TYPE_CHECKING:
    from transformers import PretrainedConfig

log = logging.getLogger(__name__)

_LANGUAGE_MODELS = {
    "AutoModelForCausalLM": "causal language model",
    "AutoModelForSeq2SeqLM": "sequence-to-sequence language model",
}


def head_name(auto_class_name: str) -> str:
    """Return what one of transformers' auto classes is called in a message."""
    words = re.findall("[A-Z][a-z]+", auto_class_name.removeprefix("AutoModelFor"))
    return _LANGUAGE_MODELS.get(auto_class_name) or f"head for {' '.join(words).lower()}"


def can(config: PretrainedConfig, auto_class_name: str) -> bool:
    """Return whether an architecture has the head of one of transformers' auto classes.

    Not counted are the decoder of an encoder-decoder, and an encoder that would be a decoder only
    with different attention than in its training.
    """
    if auto_class_name in (getattr(config, "auto_map", None) or {}):  # of the model's own code
        return True
    if not has_architecture(auto_class_name, config):
        return False
    if auto_class_name != "AutoModelForCausalLM" or getattr(config, "is_decoder", False):
        return True
    is_encoder = has_architecture("AutoModelForMaskedLM", config)
    return not is_encoder and not config.is_encoder_decoder


@shared(maxsize=None)
def families_with(auto_class_name: str) -> tuple[str, ...]:
    """Return the models of the menu that have a head, if their files name the architecture."""
    from transformers import AutoConfig

    return tuple(
        name
        for name, architecture in sorted(_menu().items())
        if can(AutoConfig.for_model(architecture), auto_class_name)
    )


def _menu() -> dict[str, str]:
    """Return the architecture (transformers' name) of each file in conf/model that states it."""
    from transformers import CONFIG_MAPPING

    found: dict[str, str] = {}
    for name, path in choices("models").items():
        given = flatten(read_mapping(path))
        architecture = given.get("architecture") or given.get("from_config.model_type")
        if architecture in CONFIG_MAPPING:
            found[name] = str(architecture)
        elif architecture not in (None, "???"):
            log.warning(
                "%s: architecture=%s: transformers has no such architecture. The file is left out "
                "of the models that can.",
                path,
                architecture,
            )
    return found
