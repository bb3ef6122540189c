"""A batch is cut up to be computed, and its update is that of the whole batch."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.batches import CALL_TOKENS, cut
from pipeline.training.microbatches import MicroBatches

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=9)


def cost(parts: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    """Return padded tokens, and what the calls cost."""
    padded = sum(len(part) * max(lengths[i] for i in part) for part in parts)
    return padded + CALL_TOKENS * len(parts)


@given(LENGTHS, st.integers(1, 400), st.one_of(st.none(), st.integers(1, 4)))
def test_every_example_is_in_one_part_within_the_budget(lengths, most, rows):
    parts = cut(lengths, most, CALL_TOKENS, rows)
    assert sorted(itertools.chain.from_iterable(parts)) == list(range(len(lengths)))
    for part in parts:
        longest = max(lengths[i] for i in part)
        assert len(part) == 1 or len(part) * longest <= most
        assert rows is None or len(part) <= rows


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8, unique=True))
def test_no_other_cut_costs_less(lengths):
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    edges = itertools.product([False, True], repeat=len(order) - 1)
    cheapest = math.inf
    for here in edges:
        places = [0, *(i for i, is_cut in enumerate(here, 1) if is_cut), len(order)]
        parts = [order[a:b] for a, b in itertools.pairwise(places)]
        cheapest = min(cheapest, cost(parts, lengths))
    assert cost(cut(lengths, 10**6, CALL_TOKENS), lengths) == cheapest


def test_without_a_budget_a_batch_is_whole():
    assert cut([3, 1, 2], None, CALL_TOKENS) == [[1, 2, 0]]


@pytest.fixture
def weights_after(
    cli: Any, tiny: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, torch.Tensor]]:
    """Return the weights after a run, in float32 and without dropout."""
    from pipeline import run as runs

    loaded = runs.load_model

    def without_dropout(*args: Any) -> Any:
        model = loaded(*args)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        kept.append(model)
        return model

    kept: list[Any] = []
    monkeypatch.setattr(runs, "load_model", without_dropout)

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


def test_one_example_that_finds_no_memory_is_named():
    batch = {"row": torch.tensor([3]), "input_ids": torch.zeros(1, 7, dtype=torch.long)}
    with pytest.raises(torch.OutOfMemoryError, match="one example of 7 tokens"):
        MicroBatches(None, None, 0).halve([batch])  # type: ignore[arg-type]
