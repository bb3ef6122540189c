"""Stages as they are written, and the space of one that begins from a trial."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from pipeline.common.errors import ConfigError
from pipeline.search.space.dimension import Dimension
from pipeline.search.space.grammar import parse_space
from pipeline.search.space.stages import Stage, StagedSpace, options_of

ONE = {"space": {"lr": "interval(0.1,1)"}}


@pytest.mark.parametrize(
    ("written", "fragments"),
    [
        ([], ["expected a list of stages"]),
        ({"space": {}}, ["expected a list of stages"]),
        ([ONE, 3], ["stage 2=3", "expected keys with their values"]),
        ([{**ONE, "narow": {}}], ["stage 1: narow is not a key of a stage", "mean narrow?"]),
        ([ONE, {"narrow": {"lr": 0.5}}], ["stage 2: narrow.lr=0.5", "greater than 1"]),
        ([{**ONE, "n_trials": "many"}], ["stage 1: n_trials='many'"]),
        ([{**ONE, "settings": {"++lr": 1}}], ["stage 1: lr is both set and searched"]),
        ([ONE, {**ONE, "narrow": {"lr": 2}}], ["stage 2: lr is both in space and in narrow"]),
    ],
)
def test_what_is_no_stage_is_refused_with_its_place(written, fragments):
    with pytest.raises(ConfigError) as refused:
        options_of(written)
    assert all(text in str(refused.value) for text in ["hydra.sweeper.stages", *fragments])


def stage(number: int, *space: str, narrow=(), settings=()) -> Stage:
    read = parse_space(space)
    keys = {*read.distributions, *read.fixed_keys}
    return Stage(number, read, None, dict(narrow), frozenset(keys), tuple(settings), {}, {})


def test_a_stage_keeps_what_it_does_not_search_itself():
    pair = Dimension("a with b", "a with b", None, pairs={"1 with 2": {"a": 1, "+b": 2}})
    earlier = {d.key: d for d in parse_space(["opt=x,y", "lr=0.1,0.2"]).dimensions}
    every = {**earlier, pair.key: pair}
    best = {"opt": "x", "lr": 0.1, "opt.momentum": 0.5, "a with b": "1 with 2", "rank": 4}
    space, fixed = stage(2, "opt=x,y", "rank=8").begun(best, every)
    # What lies in a group that is searched again was for the file that was chosen then.
    assert space.fixed == ("rank=8", "lr=0.1", "a=1", "+b=2")
    assert fixed == {"lr": 0.1, "a with b": "1 with 2"}
    assert space.centre == {"opt": "x"}  # where a prior begins


@given(st.floats(1e-5, 1e-1), st.floats(1.001, 100))
def test_a_narrowed_range_lies_around_the_best_and_in_the_whole(best, factor):
    whole = parse_space(["lr=tag(log,interval(1e-5,1e-1))"])
    narrowed = stage(2, "lr=tag(log,interval(1e-5,1e-1))", narrow={"lr": factor})
    (d,) = narrowed.begun({"lr": best}, {d.key: d for d in whole.dimensions})[0].dimensions
    assert isinstance(d.distribution, FloatDistribution)
    assert d.distribution.log
    low, high = d.distribution.low, d.distribution.high
    assert low <= best <= high
    assert (low, high) == (max(1e-5, best / factor), min(1e-1, best * factor))


@given(st.integers(0, 10), st.floats(1.001, 100))
def test_a_narrowed_range_of_whole_numbers_has_values_of_the_whole(place, factor):
    whole = parse_space(["n=range(3,34,3)"])
    best = 3 + 3 * place
    narrowed = stage(2, "n=range(3,34,3)", narrow={"n": factor})
    (d,) = narrowed.begun({"n": best}, {d.key: d for d in whole.dimensions})[0].dimensions
    assert isinstance(d.distribution, IntDistribution)
    found = [n for n in whole.dimensions[0].grid() if best / factor <= n <= best * factor]
    assert list(d.grid()) == found


def test_stages_are_told_apart_by_what_they_search_and_set():
    first, second = stage(1, "lr=0.1,0.2"), stage(2, "rank=4,8", settings=["epochs=2"])
    staged = StagedSpace.of([first, second])
    assert staged.describe() == {"lr": "0.1, 0.2 (stage 1)", "rank": "4, 8 (stage 2)"}
    flat = {"lr": 1, "rank": 2, "epochs": 3, "seed": 4}
    other = StagedSpace.of([first, stage(2, "rank=4,8", "epochs=2")])
    assert other.without(flat) == {"seed": 4}
    assert staged.notes() != StagedSpace.of([first, stage(2, "rank=4,8")]).notes()
