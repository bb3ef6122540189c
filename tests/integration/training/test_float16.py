"""Training in float16: as good as in float32, and past gradients that overflow."""

import math

import pytest
import torch

from pipeline.common.errors import DivergedError
from pipeline.training import loss_scale, speed
from pipeline.training.loss_scale import FIRST, GROWS_AFTER, LossScale
from pipeline.training.speed import device_here
from tests.support.stores import Made


@pytest.fixture
def on_any_machine(monkeypatch):
    """Compute in it without a GPU, which is slow and gives the same numbers."""
    monkeypatch.setattr(loss_scale, "device_here", lambda: torch.device("cuda"))
    monkeypatch.setattr(speed, "matmul_rate", lambda _: 1e9)  # a processor takes minutes to tell


def norms(working_folder) -> list[float]:
    made = Made(working_folder)
    (run,) = made.runs("run")
    found = made.client.get_metric_history(run.info.run_id, "train/grad_norm")
    assert found
    return [point.value for point in found]


@pytest.mark.usefixtures("on_any_machine")
def test_a_model_learns(cli, tiny, runs, working_folder):
    ended = cli("train", *tiny, "training.precision=float16", "training.epochs=8")
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    assert run.data.metrics["val/f1_macro"] > run.data.metrics["val/majority/f1_macro"]
    assert all(map(math.isfinite, norms(working_folder)))


@pytest.mark.usefixtures("on_any_machine")
def test_steps_whose_gradients_overflow_are_left_out(cli, tiny, working_folder, monkeypatch):
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**40)
    logged = ("training.logging_steps=1", "training.epochs=8")
    ended = cli("train", *tiny, "training.precision=float16", *logged)
    assert ended.code == 0, ended.err
    found = [math.isfinite(norm) and norm < 1e300 for norm in norms(working_folder)]
    assert found == sorted(found)  # overflows come first
    assert {False, True} == set(found)


def test_it_is_refused_without_a_gpu(cli, tiny):
    if device_here().type != "cpu":
        pytest.skip("there is one")
    ended = cli("train", *tiny, "training.precision=float16")
    assert ended.code == 2
    assert "training.precision=float16: needs a GPU" in ended.err


def test_the_scale_halves_at_an_overflow_and_grows_after_many_steps_without():
    scale, fine, overflow = LossScale("float16"), torch.tensor(1.0), torch.tensor(math.inf)
    assert not scale.allows(overflow)
    assert scale.value == FIRST / 2
    again = LossScale("float16")
    again.resume(scale.state)
    assert all(again.allows(fine) for _ in range(GROWS_AFTER))
    assert again.value == FIRST
    with pytest.raises(DivergedError, match=r"training\.precision=bfloat16"):
        list(map(again.allows, [overflow] * 99))


def test_other_precisions_have_no_scale():
    scale = LossScale("bfloat16")
    assert scale.allows(torch.tensor(math.nan))
    assert scale.value == 1.0
