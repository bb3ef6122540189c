"""Ways to break the folder of a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

MATRIX = "encoder.layer.0.output.dense.weight"
Tensors = dict[str, torch.Tensor]
Break = Callable[[Path], None]


def tensors(change: Callable[[Tensors], Tensors]) -> Break:
    """Break the weights."""

    def broken(folder: Path) -> None:
        file = folder / "model.safetensors"
        whole = {name: tensor.clone() for name, tensor in load_file(file).items()}
        save_file(change(whole), file, metadata={"format": "pt"})

    return broken


def each(change: Callable[[torch.Tensor], torch.Tensor], part: str = MATRIX) -> Break:
    """Break the tensors whose names have a part in them."""
    return tensors(lambda t: {n: change(v).contiguous() if part in n else v for n, v in t.items()})


def filled(value: float) -> Break:
    return each(lambda matrix: matrix.index_fill(0, torch.tensor([3]), value))


def edited(name: str, change: Callable[[Any], object]) -> Break:
    """Break a file of JSON."""

    def broken(folder: Path) -> None:
        file = folder / name
        found = json.loads(file.read_text())
        change(found)
        file.write_text(json.dumps(found))

    return broken


def config(**values: object) -> Break:
    return edited("config.json", lambda found: found.update(values))


def tokenizer(**values: object) -> Break:
    return edited("tokenizer_config.json", lambda found: found.update(values))


def written(name: str, text: str) -> Break:
    return lambda folder: (folder / name).write_text(text) and None


def encoded(name: str, encoding: str) -> Break:
    return lambda folder: (folder / name).write_text((folder / name).read_text(), encoding) and None


def generation(**values: object) -> Break:
    return written("generation_config.json", json.dumps(values))


def index(change: Callable[[Any], object]) -> Break:
    """Store the weights with an index, and break it."""

    def broken(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        names = load_file(folder / "part.safetensors")
        found = {"metadata": {}, "weight_map": dict.fromkeys(names, "part.safetensors")}
        change(found)
        (folder / "model.safetensors.index.json").write_text(json.dumps(found))

    return broken


def a_folder(name: str) -> Break:
    """Put a folder in the place of a file."""

    def broken(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return broken


def cut(name: str) -> Break:
    """Cut a file in two."""

    def broken(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return broken


def vocabulary_alone(text: str) -> Break:
    """Leave nothing of a tokenizer but a vocabulary."""

    def broken(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text(text)
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')

    return broken
