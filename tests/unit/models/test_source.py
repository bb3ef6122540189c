"""Where a model is read from: what is said of an error there, and how often its files are read."""

import pytest
import torch

from pipeline.common.errors import ModelError
from pipeline.models.checkpoint import read_checkpoint
from pipeline.models.source import WEIGHTS, Source
from tests.support.configs import model_of


def test_a_package_that_is_missing_is_to_be_installed(tmp_path):
    source = Source("model.checkpoint", "mine", str(tmp_path))
    with pytest.raises(ModelError) as refusal, source.reading("config.json"):
        raise ImportError("MambaModel requires the kernels library")
    said = str(refusal.value)
    assert said.startswith("model.checkpoint=mine: it needs a Python package")
    assert "MambaModel requires the kernels library. Install it" in said
    assert "copy it again" not in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_files_are_not_blamed_for_the_machine(tmp_path, error):
    source = Source("model.checkpoint", "mine", str(tmp_path))
    with pytest.raises(type(error)) as raised, source.reading("config.json"):
        raise error
    assert raised.value is error


def test_few_of_many_files_are_named(tmp_path):
    for part in range(30):
        (tmp_path / f"model-{part:05}.safetensors").touch()
    place = Source("model.checkpoint", "mine", str(tmp_path)).at(*WEIGHTS)
    assert place.endswith("model-00003.safetensors, … (30 in all)")


def test_a_tokenizer_is_parsed_once(tiny_model, monkeypatch):
    parsed, read = [], Source.read
    monkeypatch.setattr(Source, "read", lambda own, file: parsed.append(file) or read(own, file))
    read_checkpoint(model_of(tiny_model))
    assert parsed.count("tokenizer.json") == 1
