"""A replacement in a study: whose place it takes, and what is kept of its command."""

import json
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.jobs.retry import Retry
from pipeline.jobs.trial import Checked
from pipeline.search.study import steering
from pipeline.search.study.failures import why_hopeless
from pipeline.search.study.liveness import Heartbeat
from pipeline.search.study.queue import claim, is_done, settle_one
from pipeline.search.study.trials import (
    ATTEMPT,
    CONTINUES,
    REPLACES,
    SOURCE,
    counted,
    ended,
    params_of,
)
from pipeline.tracking.commands import notes
from tests.support.studies import spec


def test_replacement_takes_the_place_of_the_failed_trial(working_folder):
    def search(study, most):
        for _ in range(most):
            study.tell(claim(study, uniform, Heartbeat(study)), 1.0)

    uniform = replace(
        spec(working_folder, "RandomSampler", 6),
        sampler={"_target_": "optuna.samplers.RandomSampler"},
    )
    study = replace(uniform, storage="uncut.journal").open()
    search(study, 6)
    uncut = [t.params for t in counted(study)]

    study = uniform.open()
    search(study, 2)
    failed = claim(study, uniform, Heartbeat(study))
    study.tell(failed, state=TrialState.FAIL)
    search(study, 1)
    study.enqueue_trial(failed.params, user_attrs={REPLACES: failed.number})
    search(study, 3)
    assert [t.number for t in counted(study)] == [0, 1, 3, 4, 5, 6]
    params = [t.params for t in counted(study)]
    assert [*params[:2], params[3], params[2], *params[4:]] == uncut
    assert is_done(study, uniform)
    assert claim(study, uniform, Heartbeat(study)) is None
    assert why_hopeless(study, 0.0) is None


def test_a_replacement_whose_process_dies_is_still_one():
    study = optuna.create_study()
    study.tell(study.ask(), state=TrialState.FAIL)
    study.enqueue_trial({"x": 1}, user_attrs={REPLACES: 0})
    study.ask()
    assert settle_one(study, study.trials[1], retries=2)
    (again,) = counted(study, waiting=True)
    assert again.user_attrs == {ATTEMPT: 1, CONTINUES: 1, REPLACES: 0}
    assert params_of(again) == {"x": 1}
    assert ended(study, "failed") == []


def test_a_point_that_a_user_added_is_still_one_more_when_run_again(working_folder):
    one = spec(working_folder, "TPESampler", 1)
    study = one.open()
    study.tell(claim(study, one, Heartbeat(study)), 1.0)
    steering.add(study, one.space, {"x": 2.5}, is_grid=False)
    study.tell(claim(study, one, Heartbeat(study)), state=TrialState.FAIL)
    Retry("mine", [], Checked(), every=False).opened(study, one)
    again = claim(study, one, Heartbeat(study))
    assert again.params == study.trials[1].params
    assert again.user_attrs[SOURCE] == "added by the user"
    assert len(counted(study)) == 2


@pytest.mark.parametrize("secret", ["hydra.sweeper.storage=a.db", "tracking.uri=http://me:word@h"])
def test_the_command_line_that_is_kept_has_no_secrets(secret):
    kept = notes("mine", "x.journal", "sweep", ["seed=1,2", secret])
    assert json.loads(kept["tunewright.overrides"]) == ["seed=1,2"]
