"""The points that many former studies recommend together."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.search.space.grammar import parse_space
from pipeline.search.study.portfolio import NEAR, Scored, coordinates, portfolio

GRID = [{"x": x / 2, "y": y} for x in range(3) for y in "ab"]


@st.composite
def studies_of_a_grid(draw):
    """Each study has tried some points of one grid, with any scores."""
    losses = st.one_of(st.integers(0, 20).map(float), st.just(math.inf))
    tried = st.lists(st.tuples(st.sampled_from(range(len(GRID))), losses), min_size=1, max_size=8)
    found = draw(st.lists(tried, min_size=1, max_size=5))
    return [[Scored(GRID[place], loss) for place, loss in dict(one).items()] for one in found]


def losses_of(study):
    finite = [one.loss for one in study if math.isfinite(one.loss)]
    return [one.loss if math.isfinite(one.loss) else max(finite, default=0.0) for one in study]


def regret(at, study):
    """A point's regret in a study, written anew for a grid, where near is the same."""
    losses = losses_of(study)
    best, middle = min(losses), float(np.median(losses))
    own = [loss for loss, one in zip(losses, study, strict=True) if one.at == at]
    return ((own[0] if own else middle) - best) / (middle - best or max(losses) - best or 1.0)


@given(studies_of_a_grid())
def test_first_point_has_the_smallest_largest_regret(studies):
    (first, *_) = portfolio(studies, 1)
    worst = [max(regret(at, study) for study in studies) for at in tried(studies)]
    chosen = studies[first.study][first.point].at
    assert max(regret(chosen, study) for study in studies) == pytest.approx(min(worst))


@given(studies_of_a_grid(), st.integers(1, 6))
def test_no_point_comes_twice_and_each_serves_a_study_better(studies, k):
    chosen = portfolio(studies, k)
    points = [studies[one.study][one.point].at for one in chosen]
    assert len({str(at) for at in points}) == len(points) <= k
    so_far = [math.inf] * len(studies)
    for at in points:
        together = [min(a, regret(at, s)) for a, s in zip(so_far, studies, strict=True)]
        assert sum(together) < sum(so_far)
        so_far = together
    assert chosen == portfolio(studies, k + 1)[:k]


def tried(studies):
    return [one.at for study in studies for one in study]


def test_each_next_point_covers_the_study_that_is_served_worst():
    a = [Scored({"x": x}, loss) for x, loss in ((0.0, 0.0), (0.5, 1.0), (1.0, 4.0))]
    b = [Scored({"x": x}, loss) for x, loss in ((0.0, 300.0), (0.5, 100.0), (1.0, 0.0))]
    c = [Scored({"x": x}, loss) for x, loss in ((0.5, 7.0), (0.25, 8.0), (0.75, 9.0))]
    chosen = portfolio([a, b, c], 9)
    points = [[a, b, c][one.study][one.point].at["x"] for one in chosen]
    assert points == [0.5, 0.0, 1.0]
    assert [one.ranks for one in chosen] == [{0: 2, 1: 2, 2: 1}, {0: 1}, {1: 1}]


@pytest.mark.parametrize(("away", "rank"), [(NEAR * 0.9, {1: 1}), (NEAR * 1.1, {})])
def test_a_near_point_stands_for_one_that_was_not_tried(away, rank):
    near = [Scored({"x": 0.5 + away}, 0.0), Scored({"x": 0.2}, 9.0)]
    losses = [Scored({"x": 0.5}, 0.0), Scored({"x": 0.0}, 2.0), Scored({"x": 1.0}, 2.0)]
    (first,) = portfolio([near, losses], 1)
    assert first.ranks == {0: 1, **rank} or (first.study, first.point) == (1, 0)
    assert len(portfolio([near, losses], 2)) == 2 - len(rank)


def test_former_points_lie_in_the_space_as_it_is_searched():
    space = parse_space(["lr=tag(log,interval(1e-5,1e-3))", "n=int(interval(1,9))", "g=a,b"])
    at = coordinates(space, {"lr": 1e-4, "n": 3, "g": "a"})
    assert at == {"lr": pytest.approx(0.5), "n": 0.25, "g": "'a'"}
    assert portfolio([], 3) == portfolio([[]], 3) == []
