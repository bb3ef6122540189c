"""Tiny models with random weights, one of a kind, over tokenizers of whole words."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "</s>"]


def encoder(
    folder: Path, words: Sequence[str], spread: float = 0.1, width: int = 32, layers: int = 1
) -> Path:
    """A BERT, whose tokenizer reads pairs, cuts Chinese at characters and drops accents."""
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(words), "[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=spread,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def decoder(folder: Path, words: Sequence[str], kind: str = "llama", spread: float = 0.02) -> Path:
    """A Llama or a GPT-2; the wider the spread of its weights, the less alike its outputs."""
    shared = {
        "vocab_size": _of_words(folder, words),
        "bos_token_id": None,
        "eos_token_id": 4,
        "pad_token_id": 0,
        "initializer_range": spread,
    }
    torch.manual_seed(0)
    if kind == "llama":
        config = LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            **shared,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    else:
        config = GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=2, **shared)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def encoder_decoder(folder: Path, words: Sequence[str]) -> Path:
    """A T5."""
    size = _of_words(folder, words)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=size,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        eos_token_id=4,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def _of_words(folder: Path, words: Sequence[str]) -> int:
    """Write a tokenizer that adds nothing to a text, and return how many tokens it has."""
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(words), "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="</s>",
        model_max_length=64,
    ).save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def _vocabulary(words: Sequence[str]) -> dict[str, int]:
    return {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
