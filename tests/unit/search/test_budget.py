"""What counts against the budget of a search."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import create_trial

from pipeline.search.cost import FREE, Rates
from pipeline.search.study.budget import Budget, used
from pipeline.search.study.trials import COPIED, KILLED, RAN, RATES


def test_a_forks_budget_does_not_count_the_time_of_its_origin():
    study, now = optuna.create_study(), datetime.now()
    for attrs in ({COPIED: "old#0"}, {}):
        trial = create_trial(value=1.0, user_attrs=attrs)
        trial.datetime_start, trial.datetime_complete = now - timedelta(minutes=2), now
        study.add_trial(trial)
    assert Budget(n_trials=9, machine_seconds=150).exhausted(study) is None
    assert "(2.0)" in str(Budget(n_trials=9, machine_seconds=110).exhausted(study))


def test_tries_that_were_cut_off_count_as_long_as_they_are_known_to_have_run():
    study, now = optuna.create_study(), datetime.now()
    for attrs in ({KILLED: True, RAN: 20.0}, {KILLED: True}, {RAN: 30.0}):
        trial = create_trial(value=1.0, user_attrs=attrs)
        trial.datetime_start, trial.datetime_complete = now - timedelta(hours=len(attrs)), now
        study.add_trial(trial)
    assert used(study, FREE).seconds == 20 + 30


def test_energy_and_money_of_a_trial_are_by_what_its_own_worker_draws_and_costs():
    study, now = optuna.create_study(), datetime.now()
    alone, shared = Rates(100.0, 36.0, 0.5), Rates(50.0, 18.0, 0.5)
    for seconds, rates in ((3600.0, alone), (7200.0, shared), (1800.0, None)):
        marks = {RATES: asdict(rates)} if rates else {}  # of an older version: none
        trial = create_trial(value=1.0, user_attrs={RAN: seconds, **marks})
        trial.datetime_start, trial.datetime_complete = now - timedelta(seconds=seconds), now
        study.add_trial(trial)
    found = used(study, alone)
    assert found.kwh == pytest.approx(0.1 + 2 * 0.05 + 0.5 * 0.1)
    assert found.usd == pytest.approx(36.0 + 2 * 18.0 + 0.5 * 36.0 + found.kwh * 0.5)
    limited = Budget(n_trials=9, kwh=0.26, rates=alone)  # by the latest rates alone: 0.35
    assert limited.exhausted(study) is None
    assert "kwh" in str(replace(limited, kwh=0.24).exhausted(study))
