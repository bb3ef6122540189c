"""Whether a config, its tokenizer and the model are of one kind: else they train on garbage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ModelError, listing, quoted
from pipeline.models.faults import blamed, said, without_log
from pipeline.models.source import TOKENIZERS, Source
from pipeline.models.transformers_parts import config_class_of, model_class

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# What a model returns is ours to decide, whatever its config says.
OUTPUTS = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
# Of settings of generation: where several tokens may stand.
_LISTS = ("eos_token_id", "forced_eos_token_id", "bad_words_ids")
_FED = ("pad_token_id", "decoder_start_token_id")  # of a config: what a model is fed unasked
_UNKNOWN = "\N{CUNEIFORM SIGN A}"  # a word of next to no vocabulary
# Of a tokenizer: what is put around texts or stands for words; a mask is not.
_SPECIAL = ("pad_token", "unk_token", "bos_token", "eos_token", "cls_token", "sep_token")


def check_config(source: Source, config: PretrainedConfig) -> None:
    """Refuse a config that contradicts itself, or whose values no model can be fed.

    Raises:
        ModelError: naming the key.
    """
    if not hasattr(config, "auto_map"):  # own code has names of its own
        _check_architectures(source, config)
    dtype = getattr(config, "dtype", None)
    if dtype is not None and not getattr(dtype, "is_floating_point", False):
        raise source.fault(f"dtype={dtype} is no type of floats, as weights have", "config.json")
    if getattr(config, "pad_token_id", None) == -1:  # in some configs, for none
        config.pad_token_id = None
    if vocabulary := _vocabulary(config):
        for key in _FED:
            token = getattr(config, key, None)
            if token is not None and not (isinstance(token, int) and 0 <= token < vocabulary):
                raise source.fault(
                    f"{key}={token!r} is outside the vocabulary; set it to null, or to one of 0 "
                    f"to {vocabulary - 1} (vocab_size={vocabulary})",
                    "config.json",
                )


def check_generation(source: Source, config: PretrainedConfig) -> None:
    """Refuse settings of generation with tokens that the model has not, or that cannot be.

    Raises:
        ModelError: naming the key.
    """
    from transformers import GenerationConfig

    file = "generation_config.json"
    if source.folder is None or not (source.folder / file).is_file():
        return
    given, vocabulary = source.read(file), _vocabulary(config) or math.inf
    for key, value in given.items():
        found = list(_tokens(value)) if key in _LISTS else [value]
        none = [-1, None] if key == "pad_token_id" else [None]
        if (key.endswith("_token_id") or key in _LISTS) and not all(
            token in none or (type(token) is int and 0 <= token < vocabulary) for token in found
        ):
            raise source.fault(
                f"{key}={value!r:.80} is outside the vocabulary; expected ids from 0 to "
                f"{vocabulary - 1}, or null",
                file,
            )

    def attempt(settings: Mapping[str, Any]) -> None:
        GenerationConfig.from_dict(settings).validate()

    def why(error: Exception) -> str:
        what = "is of a wrong type" if isinstance(error, TypeError) else f"cannot be: {said(error)}"
        return f"{blamed(given, attempt) or 'it'} {what}"

    with source.reading(file, why=why), without_log():
        attempt(given)


def _tokens(value: object) -> Iterator[object]:
    """Yield what is in lists; a list without anything stands for itself."""
    if isinstance(value, list) and value:
        for part in value:
            yield from _tokens(part)
    else:
        yield value


def _check_architectures(source: Source, config: PretrainedConfig) -> None:
    """Refuse a model_type that is not of the architectures: it reads positions otherwise."""
    import transformers

    given = config.architectures or []
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise source.fault(f"architectures={given!r:.80} is no list of names", "config.json")
    for name in names:
        family = config_class_of(getattr(transformers, name, None))
        own = (type(config), type(_text(config)), config_class_of(model_class(config)))
        if family and not any(cls and issubclass(cls, family) for cls in own):
            raise source.fault(
                f"model_type={config.model_type!r}, but architectures names {name}, which is a "
                f"{family.model_type}: the same weights would be computed as another model",
                "config.json",
            )


def check_tokenizer(source: Source, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without words, without its special tokens, or of no length.

    Raises:
        ModelError: naming what is wrong.
    """
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest > 0:
        raise source.fault(
            f"model_max_length={longest!r} is no positive number of tokens", "tokenizer_config.json"
        )
    known = tokenizer.get_vocab()
    if not known.keys() - set(tokenizer.all_special_tokens):
        raise source.fault("the tokenizer's vocabulary is empty: it has no words", *TOKENIZERS)
    special = _special(tokenizer)
    for key, token in special.items():
        if token not in known:
            raise source.fault(f"{key}={token!r} is not in the vocabulary", *TOKENIZERS)
        if same := {t for t in special.values() if known.get(t) == known[token]} - {token}:
            problem = f"{key}={token!r} has the same id as {quoted(sorted(same))}: {known[token]}"
            raise source.fault(problem, *TOKENIZERS)
    with source.reading(*TOKENIZERS):
        tokenizer.tokenize(_UNKNOWN)  # of some vocabularies only an unknown word shows the fault


def odd_tokens(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> list[str]:
    """Say which special tokens have other ids in a config than in the tokenizer."""
    wrong = []
    for key in ("pad_token", "bos_token", "eos_token", "cls_token", "sep_token"):
        own, given = getattr(tokenizer, f"{key}_id"), getattr(config, f"{key}_id", None)
        is_made_up = key == "pad_token" and tokenizer.pad_token == tokenizer.eos_token
        if None not in (own, given) and not is_made_up and own not in (given, *_listed(given)):
            wrong.append(f"{key}_id={given}, not {own}")
    if not wrong:
        return []
    return [
        f"config.json has other ids of special tokens than the tokenizer: {listing(wrong)}; check "
        "that both are of one model"
    ]


def _listed(given: object) -> list[object]:
    return given if isinstance(given, list) else []


def check_embeddings(
    source: Source, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> None:
    """Refuse a tokenizer with tokens that the model has no embeddings of.

    Special tokens that no text becomes, as those of images, may have none.

    Raises:
        ModelError: naming the tokens.
    """
    if (vocabulary := _vocabulary(config)) is None:
        return
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    never = {str(token) for token in added if token.special} - set(_special(tokenizer).values())
    beyond = {t: i for t, i in tokenizer.get_vocab().items() if i >= vocabulary and t not in never}
    if beyond:
        raise ModelError(
            f"{source.at(*TOKENIZERS)}: the tokenizer has ids up to {max(beyond.values())} "
            f"({quoted(sorted(beyond, key=beyond.__getitem__, reverse=True)[:3])}), but the model "
            f"has embeddings of {vocabulary} tokens (vocab_size of config.json). Expected the "
            "tokenizer that the model was trained with; where you added tokens, save the model "
            "after model.resize_token_embeddings(len(tokenizer))."
        )


def embeddings_for(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many embeddings a tokenizer needs: one more than its largest id."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def _text(config: PretrainedConfig) -> PretrainedConfig:
    try:
        return config.get_text_config()
    except ValueError:  # of several texts
        return config


def _vocabulary(config: PretrainedConfig) -> int | None:
    found = getattr(_text(config), "vocab_size", None)
    return found if isinstance(found, int) else None


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    found = {key: tokenizer.special_tokens_map.get(key) for key in _SPECIAL}
    return {key: str(token) for key, token in found.items() if token is not None}
