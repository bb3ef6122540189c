"""What ends a search or a trial, what a trial is judged by, and whose trial it is."""

import time
from dataclasses import replace

import optuna
import pytest

from pipeline.common.errors import DivergedError
from pipeline.search.optuna_parts import PartOfStudy
from pipeline.search.study.budget import Budget, seconds_of
from pipeline.search.study.failures import tell_failure, why_hopeless
from pipeline.search.study.liveness import OWNER, Heartbeat, Watch
from pipeline.search.study.queue import claim, settle
from pipeline.search.study.trials import PAUSED_SINCE, STAGE, WAITED, best_first, state_of
from pipeline.tasks.objective import Constraint, Objective
from tests.support.studies import DEAD, spec


def study_of(values):
    study = optuna.create_study()
    for value in values:
        study.tell(study.ask(), value)
    return study


def test_each_limit_ends_a_search():
    study = study_of([3.0, 1.0, 2.0, 2.0])
    assert Budget(9).exhausted(study) is None
    assert "budget.minutes" in Budget(9, stop_at=time.time() - 1).exhausted(study)
    assert Budget(9, stop_at=time.time() + 60).exhausted(study) is None
    assert "machine_minutes" in Budget(9, machine_seconds=1e-9).exhausted(study)
    assert Budget(9, machine_seconds=60).exhausted(study) is None
    assert "2 trials since trial 1" in Budget(9, patience=2).exhausted(study)
    assert Budget(9, patience=3).exhausted(study) is None


def test_patience_counts_the_trials_of_one_stage(working_folder):
    patient = replace(spec(working_folder, "TPESampler", 9), budget=Budget(9, patience=2))
    study = patient.open()
    stage = PartOfStudy(study, study.sampler, STAGE, {STAGE: 2})
    for part, score in ((study, 1.0), (study, 2.0), (stage, 3.0), (stage, 4.0)):
        part.tell(part.ask(), score)
    assert patient.why_over(stage) is None
    stage.tell(stage.ask(), 5.0)
    assert "2 trials since trial 2 were no better" in patient.why_over(stage)


def test_failure_by_parameters_is_a_violated_constraint():
    study = optuna.create_study()
    for error in (MemoryError("out of memory"), DivergedError("step 1"), RuntimeError("a bug")):
        tell_failure(study, study.ask(), error)
    assert [dict(t.constraints) for t in study.trials] == [{"oom": 1.0}, {"diverged": 1.0}, {}]
    assert [state_of(t) for t in study.trials] == ["failed"] * 3
    assert why_hopeless(study, 1.0) is None  # three reasons are no single bug


@pytest.mark.parametrize(
    ("direction", "aggregation", "expected"),
    [
        ("maximize", "best", 5.0),
        ("minimize", "best", 1.0),
        ("maximize", "last", 2.0),
        ("maximize", "mean3", 8 / 3),
    ],
)
def test_a_score_is_made_of_the_evaluations_as_asked(direction, aggregation, expected):
    objective = Objective("val/f1_macro", direction, aggregation)
    assert objective.score([5.0, 1.0, 5.0, 2.0]) == pytest.approx(expected)


def test_a_trial_that_keeps_its_limits_comes_before_a_better_one():
    at_least = Constraint("val/recall/pos", True, 0.9, "val/recall/pos >= 0.9")
    study = optuna.create_study(direction="maximize")
    for score, recall in ((0.9, 0.5), (0.7, 0.95)):
        asked = study.ask()
        asked.set_constraint(at_least.text, at_least.excess(recall))
        study.tell(asked, score)
    assert [t.number for t in best_first(study)] == [1, 0]


def test_trial_abandoned_by_an_error_is_taken_over_from_a_live_process(working_folder):
    sphere = replace(spec(working_folder, "TPESampler", 3), retries=1)
    study = sphere.open()

    def worker():
        with Heartbeat(study) as heartbeat:
            taken.append(claim(study, sphere, heartbeat))
            raise OSError("the disk is full")

    taken = []
    with pytest.raises(OSError, match="disk"):
        worker()
    (left,) = taken
    assert settle(study, sphere, Watch()) == [left.number]
    with Heartbeat(study) as heartbeat:
        assert claim(study, sphere, heartbeat).params == left.params


def test_a_trial_that_was_stopped_by_hand_uses_up_no_retry(working_folder):
    sphere = replace(spec(working_folder, "TPESampler", 3), retries=0)
    study = sphere.open()

    def worker():
        with Heartbeat(study) as heartbeat:
            claim(study, sphere, heartbeat)
            raise KeyboardInterrupt

    for number in range(3):
        with pytest.raises(KeyboardInterrupt):
            worker()
        assert settle(study, sphere, Watch()) == [number]
    assert [state_of(t) for t in study.trials] == ["killed"] * 3 + ["waiting"]


def test_a_search_that_is_killed_as_a_whole_uses_up_no_retry(working_folder):
    sphere = replace(spec(working_folder, "TPESampler", 3), retries=0)
    study = sphere.open()
    for number in range(3):
        trial = claim(study, sphere, Heartbeat(study))
        trial.set_user_attr(OWNER, DEAD)
        assert settle(study, sphere, Watch(), is_start=True) == [number]
    assert [state_of(t) for t in study.trials] == ["killed"] * 3 + ["waiting"]
    claim(study, sphere, Heartbeat(study)).set_user_attr(OWNER, DEAD)
    settle(study, sphere, Watch())  # as the search that lives on does
    assert state_of(study.trials[3]) == "failed"


def test_paused_time_does_not_count_as_trial_time():
    study = optuna.create_study()
    trial = study.ask()
    began = study.trials[0].datetime_start.timestamp()
    trial.set_user_attr(PAUSED_SINCE, began + 5)
    assert seconds_of(study.trials[0]) == pytest.approx(5)
    trial.set_user_attr(PAUSED_SINCE, None)
    trial.set_user_attr(WAITED, 1000.0)
    assert seconds_of(study.trials[0]) == pytest.approx(time.time() - began - 1000, abs=1)
