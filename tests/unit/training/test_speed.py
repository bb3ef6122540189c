"""The precision that the machine and the models' width decide."""

import pytest
import torch
from transformers import BertConfig, GPT2Config, T5Config

from pipeline.training.speed import precision_here

WIDE, NARROW = BertConfig(hidden_size=384, num_attention_heads=12), T5Config(d_model=64)


@pytest.mark.parametrize(
    ("models", "flags", "expected"),
    [
        ([WIDE], {"avx512_bf16": True}, "bfloat16"),
        ([GPT2Config(n_embd=768)], {"amx_bf16": True}, "bfloat16"),
        ([WIDE], {"avx512_f": True}, "float32"),
        ([WIDE, NARROW], {"avx512_bf16": True}, "float32"),
    ],
)
def test_precision_is_bfloat16_where_it_is_native_and_all_models_are_wide(
    monkeypatch, models, flags, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert precision_here(models) == expected
