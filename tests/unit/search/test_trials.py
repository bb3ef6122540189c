"""Which trial is the best, and when it became that."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.search.study import trials
from pipeline.search.study.trials import (
    best_first,
    in_order_of_end,
    is_among_best,
    pareto_front,
    score_text,
    scores_of,
)

WAYS = ["maximize", "minimize"]
SCORES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8)


def study_of(scores, directions=WAYS) -> optuna.Study:
    optuna.logging.disable_default_handler()
    study = optuna.create_study(directions=directions)
    for values in scores:
        study.tell(study.ask(), values)
    return study


@given(SCORES)
def test_the_best_trial_is_on_the_pareto_front(scores):
    study = study_of(scores)
    best = best_first(study)[0]
    assert best.number in {t.number for t in pareto_front(study)}
    assert best.values[0] == max(first for first, _ in scores)


@given(SCORES, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(1, 3))
def test_scores_are_among_the_best_where_their_trial_would_come_first(scores, own, most):
    study = study_of(scores)
    number = len(scores)
    said = is_among_best(study, own, number, most)
    study.tell(study.ask(), own)
    assert said == (number in {t.number for t in best_first(study)[:most]})


def test_a_trial_that_is_over_is_read_once(monkeypatch):
    study, read = study_of([(0, 0)] * 5), []
    running = study.ask()

    def state(trial, known=trials.state_of):
        read.append(trial.number)
        return known(trial)

    monkeypatch.setattr(trials, "state_of", state)
    assert [len(trials.counted(study)) for _ in range(2)] == [6, 6]
    study.tell(running, (1, 1))
    study.enqueue_trial({}, user_attrs={trials.REPLACES: 0})
    assert [t.number for t in trials.ended(study)] == [1, 2, 3, 4, 5]
    assert read == [0, 1, 2, 3, 4, 5, 5, 5, 6]


def test_the_best_so_far_goes_by_the_order_of_the_ends():
    study = optuna.create_study(direction="maximize")
    first, second, third = (study.ask() for _ in range(3))
    for trial, score in ((second, 0.4), (third, 0.2), (first, 0.9)):
        study.tell(trial, score)
    found = [(trial.number, best.number) for trial, best in in_order_of_end(study)]
    assert found == [(1, 1), (2, 1), (0, 0)]


def test_a_trial_that_the_space_has_no_more_keeps_its_place_but_is_not_the_best():
    study = study_of([[0.9], [0.4]], ["maximize"])
    study.set_user_attr("set_aside", [0])
    assert [best and best.number for _, best in in_order_of_end(study)] == [None, 1]


@pytest.mark.parametrize("scores", [[(1, 5), (1, 3)], [(1, 3), (1, 5)]])
def test_equal_first_objectives_are_decided_by_the_second(scores):
    assert best_first(study_of(scores))[0].values == [1, 3]


def test_a_trials_scores_are_what_its_state_leaves_it():
    study = optuna.create_study(direction="maximize")
    complete, pruned, other, failed, running = (study.ask() for _ in range(5))
    for trial in (pruned, other, failed, running):
        trial.report(0.3, step=1)
        trial.report(0.2, step=2)
    other.set_user_attr("scores", [0.7])  # its run's, where trials report another metric
    failed.set_user_attr("reason", "diverged: step 3")
    study.tell(complete, 0.9)
    for trial in (pruned, other, failed):
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert [scores_of(t) for t in study.trials] == [[0.9], [0.2], [0.7], [], [0.2]]
    assert [score_text(t) for t in study.trials] == ["0.9000", "0.2000", "0.7000", "", "0.2000"]


@pytest.mark.parametrize(("reports", "text"), [([0.3], "0.3000"), ([], "")])
def test_a_trial_that_still_runs_has_no_spread(reports, text):
    """Its worker notes the scores of the seeds before it tells them to the study."""
    study = optuna.create_study(directions=["maximize"] if reports else WAYS)
    trial = study.ask()
    for step, value in enumerate(reports):
        trial.report(value, step)
    trial.set_user_attr("repeats", [[0.1] * len(study.directions), [0.2] * len(study.directions)])
    assert score_text(study.trials[0]) == text
