"""Averages of weights, and which of them a soup is made of."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.models.soup import average, greedy, why_apart


@pytest.fixture
def folders(tmp_path):
    """Three models of two files each, in several dtypes."""
    torch.manual_seed(0)
    made = [tmp_path / name for name in "abc"]
    for folder in made:
        folder.mkdir()
        save_file({"w": torch.randn(4, 3), "at": torch.arange(3)}, folder / "1.safetensors")
        save_file({"b": torch.randn(5).bfloat16()}, folder / "2.safetensors")
    return made


def test_weights_are_the_mean_in_float32(folders, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    average(folders, out)
    for file, name in (("1.safetensors", "w"), ("2.safetensors", "b")):
        every = torch.stack([load_file(folder / file)[name].float() for folder in folders])
        found = load_file(out / file)[name]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, every.mean(dim=0), rtol=1e-6, atol=1e-7)
    assert load_file(out / "1.safetensors")["at"].tolist() == [0, 1, 2]
    average(folders[:1], out)
    assert torch.equal(
        load_file(out / "1.safetensors")["w"], load_file(folders[0] / "1.safetensors")["w"]
    )


def test_a_model_stays_in_the_soup_unless_the_score_falls():
    gains = [0.0, -0.1, 0.2, 0.0, -0.3]
    asked = []

    def score(some):
        asked.append(list(some))
        return sum(gains[i] for i in some)

    tried = greedy(len(gains), score, sign=1)
    assert [one.is_in for one in tried] == [True, False, True, True, False]
    assert asked == [[0], [0, 1], [0, 2], [0, 2, 3], [0, 2, 3, 4]]
    assert [one.is_in for one in greedy(len(gains), score, sign=-1)] == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_models_that_have_no_average_are_told_apart(folders):
    first, other, third = folders
    assert why_apart(first, other) == ""
    save_file({"w": torch.randn(4, 2), "at": torch.arange(3)}, other / "1.safetensors")
    assert why_apart(first, other) == "it is of another architecture: w"
    save_file({"b": torch.zeros(5, dtype=torch.uint8)}, third / "2.safetensors")
    assert "quantized (b)" in why_apart(first, third)
