"""The parts of a batch: within the budget, each example once, at the least cost."""

import itertools
import math
from collections.abc import Sequence

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


def test_one_example_that_finds_no_memory_is_named():
    batch = {"row": torch.tensor([3]), "input_ids": torch.zeros(1, 7, dtype=torch.long)}
    with pytest.raises(torch.OutOfMemoryError, match="one example of 7 tokens"):
        MicroBatches(None, None, 0).halve([batch])  # type: ignore[arg-type]
