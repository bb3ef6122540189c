"""A batch is cut up to be computed, and its update is that of the whole batch."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch


@pytest.fixture
def weights_after(
    cli: Any, tiny: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, torch.Tensor]]:
    """Return the weights after a run, in float32 and without dropout."""
    from pipeline import run as five_steps

    loaded = five_steps.load_model

    def without_dropout(*args: Any) -> Any:
        model = loaded(*args)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        kept.append(model)
        return model

    kept: list[Any] = []
    monkeypatch.setattr(five_steps, "load_model", without_dropout)

    def after(*overrides: str) -> dict[str, torch.Tensor]:
        settings = ["training.batch_size=8", "training.precision=float32", "training.epochs=1"]
        assert cli("train", *tiny, *settings, *overrides).code == 0
        return {name: p.detach().clone() for name, p in kept[-1].named_parameters()}

    return after


@pytest.mark.parametrize("setting", ["task.class_weights=balanced", "training.max_grad_norm=0.1"])
def test_the_update_is_that_of_the_whole_batch(weights_after, setting):
    whole = weights_after(setting, "training.micro_batch_tokens=null")
    apart = weights_after(setting, "training.micro_batch_tokens=16")
    assert whole.keys() == apart.keys()
    for name, weight in whole.items():
        assert torch.allclose(weight, apart[name], rtol=0, atol=1e-5), name


def test_where_memory_is_short_the_step_is_done_again_in_halves(
    weights_after, runs, monkeypatch: pytest.MonkeyPatch
):
    from pipeline.tasks.classification import Classification

    expected = weights_after("training.micro_batch_tokens=null")
    forward, sizes = Classification.forward, []

    def short_of_memory(self: Any, model: Any, batch: Any) -> Any:
        if model.training and len(batch["row"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if model.training:
            sizes.append(len(batch["row"]))
        return forward(self, model, batch)

    monkeypatch.setattr(Classification, "forward", short_of_memory)
    found = weights_after("training.micro_batch_tokens=null")
    assert max(sizes) <= 3
    for name, weight in expected.items():
        assert torch.allclose(weight, found[name], rtol=0, atol=1e-5), name
    assert any("train/micro_batch_tokens" in run.data.metrics for run in runs("run"))
