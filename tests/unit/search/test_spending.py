"""What a study has cost is the sum over the starts of its search."""

from dataclasses import astuple

import optuna
import pytest

from pipeline.search import spending
from pipeline.search.cost import Rates
from pipeline.search.searchable import Searchable


@pytest.fixture
def start(monkeypatch):
    """Return what searches a study of its own for so long, and returns what it says it cost."""
    study, now = optuna.create_study(), [1000.0]
    monkeypatch.setattr(spending.time, "time", lambda: now[0])

    def run(seconds, *, pause=900.0, runs=True, kwh=None, killed=False):
        now[0] += pause
        cost = spending.Spending(study, Searchable(print), Rates(), now[0], 2, runs=runs)
        cost._measured = kwh
        now[0] += seconds
        if killed:
            cost.keep(is_over=False)
            return None
        total = cost.total
        now[0] += 5.0  # for the page
        cost.keep(is_over=True)
        assert cost.account.total == 2 * total.seconds
        return total

    return run


def test_a_study_took_what_its_starts_took_without_pauses(start):
    assert start(50.0).seconds == 50
    assert start(7.0, runs=False).seconds == 50  # nothing was left to run
    assert start(30.0).seconds == 80
    start(10.0, killed=True)
    assert start(3.0).seconds == 93


def test_energy_is_measured_where_it_was_in_every_start(start):
    assert astuple(start(9.0, kwh=0.5))[-3:] == (0.5, 0, True)
    assert astuple(start(9.0, kwh=0.25))[-3:] == (0.75, 0, True)
    assert not start(9.0).is_measured
