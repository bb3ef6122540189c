"""Money for trials: asked for by several at once, given as far as the budget goes, taken back."""

import threading
from dataclasses import replace

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from pipeline.common.errors import SearchStopped
from pipeline.search.study import charges
from pipeline.search.study.budget import Budget, used
from pipeline.search.study.trials import ASKS, NEEDED


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(charges, "_LOOK_SECONDS", 0.001)


def ask(study, trial, budget, usd):
    try:
        charges.ask(study, trial, budget, f"run-{trial.number}", usd, lambda: None)
    except SearchStopped:
        return False
    return True


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_who_asks_at_the_same_time_never_gets_more_than_there_is(prices, most):
    study = optuna.create_study()
    trials = [study.ask() for _ in prices]
    budget, given_to = Budget(n_trials=9, usd=float(most)), {}

    def work(trial, usd):
        given_to[trial.number] = ask(study, trial, budget, float(usd))

    threads = [threading.Thread(target=work, args=one) for one in zip(trials, prices, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = sum(price for i, price in enumerate(prices) if given_to[i])
    assert used(study, budget.rates).usd == pytest.approx(spent)
    assert spent <= most
    refused = [price for i, price in enumerate(prices) if not given_to[i]]
    assert all(price > most - spent for price in refused)


def test_a_refused_trial_begins_once_others_were_cheaper_or_there_is_more():
    study, budget = optuna.create_study(), Budget(n_trials=9, usd=1.0)
    first, second = study.ask(), study.ask()
    assert ask(study, first, budget, 0.6)
    assert not ask(study, second, budget, 0.6)
    assert "has no room for a trial of 0.6 USD" in budget.exhausted(study)
    assert replace(budget, usd=2.0).exhausted(study) is None
    charges.note(study, first, "run-0", 0.3)  # what it has cost
    assert budget.exhausted(study) is None
    assert ask(study, second, budget, 0.6)
    assert study.user_attrs[NEEDED] == 0


def test_what_a_dead_trial_asked_for_is_nobodys():
    study, budget = optuna.create_study(), Budget(n_trials=9, usd=1.0)
    dead, alive = study.ask(), study.ask()
    dead.set_user_attr(ASKS, {"run": 0.9})
    study.tell(dead, state=TrialState.FAIL)
    assert ask(study, alive, budget, 0.5)


def test_a_run_that_another_try_goes_on_with_counts_once():
    study, budget = optuna.create_study(), Budget(n_trials=9, usd=1.0)
    killed, again = study.ask(), study.ask()
    charges.note(study, killed, "run", 0.4)
    charges.note(study, again, "run", 0.5)
    assert used(study, budget.rates).usd == pytest.approx(0.5)
