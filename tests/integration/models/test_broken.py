"""A model that is broken in one way is refused before a run is recorded, and the fault is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.refusals import refused

MATRIX = "encoder.layer.0.output.dense.weight"
Tensors = dict[str, torch.Tensor]


def tensors(change: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    """Break the weights."""

    def broken(folder: Path) -> None:
        file = folder / "model.safetensors"
        whole = {name: tensor.clone() for name, tensor in load_file(file).items()}
        save_file(change(whole), file, metadata={"format": "pt"})

    return broken


def one(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Break one tensor."""
    return tensors(lambda whole: {**whole, MATRIX: change(whole[MATRIX]).contiguous()})


def filled(value: float) -> Callable[[Path], None]:
    return one(lambda matrix: matrix.index_fill(0, torch.tensor([3]), value))


def config(**values: object) -> Callable[[Path], None]:
    """Break config.json."""

    def broken(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return broken


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


BROKEN = {
    "all renamed": (tensors(lambda t: {f"x.{n}": v for n, v in t.items()}), "lack bert."),
    "one missing": (tensors(lambda t: {n: v for n, v in t.items() if n != MATRIX}), MATRIX),
    "one renamed": (tensors(lambda t: {n.replace(MATRIX, "x"): v for n, v in t.items()}), MATRIX),
    "no tensors": (tensors(lambda _: {}), "lack bert."),
    "transposed": (one(lambda matrix: matrix.T), MATRIX),
    "flattened": (one(torch.flatten), MATRIX),
    "scalar": (one(torch.sum), MATRIX),
    "int8": (one(lambda matrix: matrix.to(torch.int8)), MATRIX),
    "int64": (one(lambda matrix: matrix.to(torch.int64)), MATRIX),
    "bool": (one(lambda matrix: matrix > 0), MATRIX),
    "NaN": (filled(float("nan")), MATRIX),
    "infinite": (filled(float("inf")), MATRIX),
    "minus infinite": (filled(float("-inf")), MATRIX),
    "more layers": (config(num_hidden_layers=9), "lack bert.encoder.layer."),
    "fewer layers": (config(num_hidden_layers=0), "encoder.layer.0."),
    "wider layers": (config(intermediate_size=96), "intermediate.dense"),
    "wider model": (config(hidden_size=48, num_attention_heads=2), "bert.embeddings"),
    "larger vocabulary": (config(vocab_size=5000), "word_embeddings"),
    "fewer positions": (config(max_position_embeddings=40), "position_embeddings"),
    "another architecture": (config(model_type="distilbert"), "distilbert."),
    "heads that do not divide": (config(num_attention_heads=7), "7"),
    "hidden size as text": (config(hidden_size="wide"), "hidden_size"),
    "negative hidden size": (config(hidden_size=-4), ""),
    "no layers": (config(num_hidden_layers=None), "num_hidden_layers"),
    "unknown activation": (config(hidden_act="gulu"), "gulu"),
    "unknown dtype": (config(dtype="float33"), "float33"),
    "pad token outside": (config(pad_token_id=99999), "pad_token_id=99999"),
    "unknown type": (config(model_type="bret"), "bret"),
    "config no JSON": (written("config.json", "{"), "config.json"),
    "config a list": (written("config.json", "[]"), ""),
    "tokenizer config no JSON": (written("tokenizer_config.json", "{"), ""),
    "tokenizer config a list": (written("tokenizer_config.json", "[]"), ""),
    "tokenizer no JSON": (written("tokenizer.json", "{"), ""),
    "tokenizer empty": (written("tokenizer.json", "{}"), ""),
    "weights empty": (written("model.safetensors", "x"), ""),
    "adapter": (written("adapter_config.json", "{}"), "PEFT adapter"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_model_is_refused(cli, tiny, tiny_model, name):
    change, fault = BROKEN[name]
    shutil.copytree(tiny_model, "broken")
    change(Path("broken"))
    refused(
        cli("train", *tiny, "model.checkpoint=./broken"), "model.checkpoint=", "broken: ", fault
    )


def test_masks_that_older_releases_saved_are_no_weights(tmp_path):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    from pipeline.models.loaded import check_floats, check_loaded

    sizes = {"hidden_size": 8, "num_heads": 2, "num_layers": 1, "vocab_size": 9}
    small = GPTNeoConfig(**sizes, attention_types=[[["global"], 1]], max_position_embeddings=8)
    GPTNeoForCausalLM(small).save_pretrained(tmp_path)
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    tensors(lambda whole: {**whole, "transformer.h.0.attn.attention.bias": mask})(tmp_path)
    check_floats(tmp_path, "model.checkpoint=old")
    model, found = GPTNeoForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    check_loaded(model, found, "model.checkpoint=old", writes=True)
