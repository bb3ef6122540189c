"""What counts against the budget of a search."""

from datetime import datetime, timedelta

import optuna
from optuna.trial import create_trial

from pipeline.search.study.budget import Budget, machine_seconds
from pipeline.search.study.trials import COPIED, KILLED, RAN


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
    assert machine_seconds(study) == 20 + 30
