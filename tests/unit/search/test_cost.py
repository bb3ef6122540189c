"""Time, energy and money of a search, reckoned from the seconds of its trials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.contract import RunCost
from pipeline.search.cost import Prices, Rates, Spent, forecast, makespan


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30), st.integers(1, 8))
def test_workers_end_between_an_equal_share_and_one_trial_more(seconds, workers):
    found = makespan(seconds, workers)
    share = sum(seconds) / workers
    assert max(share, *seconds) <= found * (1 + 1e-9)
    assert found <= share + max(seconds) + 1e-9


def test_energy_and_money_are_those_of_the_workers_seconds():
    prices = Prices(
        core_watts=10, gpu_watts=400, usd_per_kwh=0.5, usd_per_core_hour=2, usd_per_gpu_hour=3
    )
    rates = prices.rates(cores=4, gpus=0.5)
    assert rates == Rates(watts=240, usd_per_hour=9.5, usd_per_kwh=0.5)
    costs = [[RunCost(seconds=1800, record=1000, model=5000)] * 4]
    expected = forecast(costs, 2, 2, rates, begun=10, before=Spent(0, 0, 0, 0, 0), models=3)
    assert (expected.seconds, expected.machine_seconds) == (7210, 14400)
    assert expected.disk == 8 * 1000 + 3 * 5000  # of all models the best three are kept
    for models in (0, 1):  # is it there, or did the trials only fail?
        before = Spent(90, 100, 7000, 0.5, 3.0)
        resumed = forecast(costs, 2, 2, rates, begun=10, before=before, models=models)
        assert resumed.disk == 7000 + 8 * 1000 + models * 5000
        assert (resumed.seconds, resumed.machine_seconds) == (90 + 7210, 100 + 14400)
        assert (resumed.kwh, resumed.usd) == (0.5 + expected.kwh, 3.0 + expected.usd)
    assert expected.kwh == pytest.approx(0.24 * 4)
    assert expected.usd == pytest.approx(9.5 * 4 + 0.96 * 0.5)


def test_a_stage_begins_when_the_last_trial_of_the_one_before_has_ended():
    one = RunCost(seconds=10, record=0, model=0)
    nothing = Spent(0, 0, 0, 0, 0)
    for stages, seconds in (([[one] * 6], 30), ([[one] * 3, [one] * 3], 40)):
        found = forecast(stages, 1, 2, Rates(), begun=0, before=nothing, models=0)
        assert (found.seconds, found.machine_seconds) == (seconds, 60)
