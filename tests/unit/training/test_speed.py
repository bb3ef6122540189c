"""The precision that the machine and the models' width decide."""

import pytest
import torch
from transformers import BertConfig, GPT2Config, T5Config

from pipeline.training import speed
from pipeline.training.speed import matmul_rate, precision_here
from tests.support.configs import training

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


@pytest.mark.parametrize(("seconds", "products"), [(0.5, 10), (2.0, 1)])
def test_machine_is_measured_by_one_product_where_it_takes_long(monkeypatch, seconds, products):
    timed = []
    monkeypatch.setattr(speed, "device_here", lambda: torch.device("cpu"))
    monkeypatch.setattr(speed, "_seconds", lambda action: timed.append(action) or seconds)
    rate = matmul_rate(training(precision="bfloat16"))
    assert len(timed) == products
    assert rate == 2 * (1536 if products > 1 else 1024) ** 3 / seconds
