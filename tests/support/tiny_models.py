"""Tiny encoder-decoders and decoders with their tokenizers, random weights, each in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END, BEGIN = "<pad>", "</s>", "<s>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(
    texts: Iterable[str],
    *,
    encoder: bool = False,
    begin: bool = False,
    pad: str | None = PAD,
    end: str = END,
    template: str | None = None,
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, as GPT-2 has, to which frequent words are one token.

    Args:
        texts: what it is trained on; it reads any other text as well.
        encoder: whether it writes an end after every text, as T5's and BART's do.
        begin: whether it writes a beginning before every text, as BART's and Llama's do.
        pad: the padding token; None: there is none.
        end: the end-of-text token.
        template: of chats.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, END, BEGIN, TURN, TURN_END]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if encoder or begin:
        whole = f"{BEGIN if begin else ''} $A {end if encoder else ''}".strip()
        ids = [(name, tokenizer.token_to_id(name)) for name in (BEGIN, end)]
        tokenizer.post_processor = processors.TemplateProcessing(single=whole, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=pad,
        bos_token=BEGIN if begin else None,
        extra_special_tokens=[TURN, TURN_END],
        chat_template=template,
    )


def tiny_t5(folder: Path, texts: Iterable[str], **changes: Any) -> Path:
    """Make a T5 of one layer on each side."""
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = tiny_tokenizer(texts, encoder=True)
    return _saved(
        folder,
        tokenizer,
        T5ForConditionalGeneration,
        T5Config,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        **changes,
    )


def tiny_bart(folder: Path, texts: Iterable[str], **changes: Any) -> Path:
    """Make a BART of one layer on each side, which is made to write a beginning first."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = tiny_tokenizer(texts, encoder=True, begin=True)
    return _saved(
        folder,
        tokenizer,
        BartForConditionalGeneration,
        BartConfig,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=128,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_bos_token_id=tokenizer.bos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        **changes,
    )


def tiny_llama(
    folder: Path,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast | None = None,
    **changes: Any,
) -> Path:
    """Make a Llama of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _saved(
        folder,
        tokenizer or tiny_tokenizer(texts, begin=True),
        LlamaForCausalLM,
        LlamaConfig,
        **{
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
            **changes,
        },
    )


def tiny_gpt2(
    folder: Path,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast | None = None,
    **changes: Any,
) -> Path:
    """Make a GPT-2 of two layers, without a padding token, as the real one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return _saved(
        folder,
        tokenizer or tiny_tokenizer(texts, pad=None),
        GPT2LMHeadModel,
        GPT2Config,
        **{"n_positions": 256, "n_embd": 64, "n_layer": 2, "n_head": 4, **changes},
    )


def _saved(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    model: Any,
    config: Any,
    **values: Any,
) -> Path:
    import torch

    tokens = {
        name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model(config(**{"vocab_size": len(tokenizer), **tokens, **values}))
    for name in values.keys() & {"forced_bos_token_id", "forced_eos_token_id"}:
        setattr(made.generation_config, name, values[name])
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
