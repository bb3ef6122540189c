"""The models of the menu by what they can do, and which heads transformers has for a model."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Of the files in conf/model that name one model: transformers' name of its architecture.
FAMILIES = {
    "bart-base": "bart",
    "bert-base": "bert",
    "bert-base-chinese": "bert",
    "deberta-v3-small": "deberta-v2",
    "distilbert": "distilbert",
    "flan-t5-small": "t5",
    "gpt2": "gpt2",
    "llama": "llama",
    "marian-en-de": "marian",
    "minilm": "bert",
    "modernbert-base": "modernbert",
    "mt5-small": "mt5",
    "qwen": "qwen2",
    "roberta-base": "roberta",
    "smollm": "llama",
    "smollm-instruct": "llama",
    "t5-small": "t5",
    "tiny-bert": "bert",
    "tiny-gpt2": "gpt2",
    "tiny-llama": "llama",
    "tiny-t5": "t5",
    "xlm-roberta-base": "xlm-roberta",
}
_HEADS = {
    "AutoModelForSequenceClassification": "head for sequence classification",
    "AutoModelForQuestionAnswering": "head for question answering",
    "AutoModelForCausalLM": "causal language model",
    "AutoModelForSeq2SeqLM": "sequence-to-sequence language model",
}


def can(config: PretrainedConfig, auto_class_name: str) -> bool:
    """Return whether an architecture has the head of one of transformers' auto classes.

    Not counted are the decoder's half of an encoder-decoder, and an encoder that only with other
    attention than it was trained with would be a decoder.
    """
    import transformers

    if auto_class_name in (getattr(config, "auto_map", None) or {}):  # of the model's own code
        return True
    auto_class = getattr(transformers, auto_class_name)
    if type(config) not in auto_class._model_mapping:
        return False
    if auto_class_name != "AutoModelForCausalLM" or getattr(config, "is_decoder", False):
        return True
    is_encoder = type(config) in transformers.AutoModelForMaskedLM._model_mapping
    return not is_encoder and not config.is_encoder_decoder


def head_name(auto_class_name: str) -> str:
    """Return what an auto class is called in a message."""
    return _HEADS.get(auto_class_name, auto_class_name)


@lru_cache
def families_with(auto_class_name: str) -> tuple[str, ...]:
    """Return the models of the menu that have a head."""
    from transformers import AutoConfig

    return tuple(
        name for name, kind in FAMILIES.items() if can(AutoConfig.for_model(kind), auto_class_name)
    )
