"""What users ask of a study while it is searched: a point more, the end of a trial or of all."""

from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.common.errors import ConfigError, SearchStopped, TrialStoppedError
from pipeline.config.tracking import TrackingConfig
from pipeline.jobs.steer import Steered
from pipeline.jobs.study_record import StudyRecord
from pipeline.search.space.change import open_or_continue
from pipeline.search.space.grammar import parse_space
from pipeline.search.study import steering
from pipeline.search.study.liveness import Heartbeat
from pipeline.search.study.queue import claim, is_done, queue_grid, settle_one
from pipeline.search.study.study import SPACE
from pipeline.search.study.trials import PAUSED_AT, counted, params_of, state_of
from pipeline.tracking import open_store, tags
from tests.support.studies import search_sphere, spec


@pytest.fixture
def random(working_folder):
    """The spec of a random search of eight trials."""
    sampler = {"_target_": "optuna.samplers.RandomSampler"}
    return replace(spec(working_folder, "RandomSampler", 8), sampler=sampler)


def test_an_added_point_is_next_one_more_and_moves_no_other(random):
    uncut = search_sphere(replace(random, storage="uncut.journal"))
    study = random.open()
    study.enqueue_trial({"x": 0.0, "y": 0.0})
    first = claim(study, random, Heartbeat(study))
    study.tell(first, 0.0)
    study.enqueue_trial({"x": 1.0, "y": 1.0})  # a first point, say: it waits
    trial = steering.add(study, random.space, {"x": 2.5}, is_grid=False)
    points = search_sphere(random)
    assert [t.params for t in counted(study)] == points
    assert len(points) == 9
    assert is_done(study, random)
    added = next(t for t in study.trials if t.number == trial.number)
    assert added.params["x"] == 2.5
    assert added.datetime_start < study.trials[first.number + 1].datetime_start
    others = [p for p in points if p not in (added.params, {"x": 0.0, "y": 0.0})]
    assert others == [{"x": 1.0, "y": 1.0}, *uncut[2:]]


@pytest.mark.parametrize("sampler", ["RandomSampler", "QMCSampler"])
def test_what_an_added_point_leaves_open_no_other_trial_draws(random, sampler):
    own = replace(random, sampler={"_target_": f"optuna.samplers.{sampler}"})
    others = search_sphere(replace(own, storage="uncut.journal"))
    study = own.open()
    steering.add(study, own.space, {"x": 2.5}, is_grid=False)
    drawn = claim(study, own, Heartbeat(study)).params["y"]
    assert drawn not in {value for point in others for value in point.values()}


def test_an_added_point_is_named_though_a_worker_has_claimed_it(random, monkeypatch):
    def enqueue(study, *given, **named):
        queue(study, *given, **named)
        claim(study, random, Heartbeat(study))

    study, queue = random.open(), optuna.Study.enqueue_trial
    monkeypatch.setattr(optuna.Study, "enqueue_trial", enqueue)
    trial = steering.add(study, random.space, {"x": 2.5}, is_grid=False)
    assert (trial.number, trial.state) == (0, TrialState.RUNNING)


@pytest.mark.parametrize("on_change", ["continue", "fork"])
def test_an_added_point_stays_queued_in_a_changed_space_that_has_it(random, on_change):
    def opened(one):
        def place(name):
            return replace(one, name=name)

        known, same = {SPACE: one.space.describe()}, lambda settings, *_: dict(settings)
        return open_or_continue(one, known, {}, same, on_change, place).study

    study = opened(random)
    for x in (2.5, 4.5):
        steering.add(study, random.space, {"x": x}, is_grid=False)
    study = opened(replace(random, space=parse_space(["x=interval(-3.0,3.0)", "z=1,2"])))
    assert [params_of(t) for t in study.trials if state_of(t) == "waiting"] == [{"x": 2.5}]


def test_a_grid_brings_a_queued_point_forward_or_has_one_more(random):
    space = parse_space(["x=0,1,2", "y=0,1"])
    grid = replace(random, space=space, sampler={}, budget=replace(random.budget, n_trials=4))
    study = grid.open()
    queue_grid(study, grid)

    def add(**point):
        return steering.add(study, space, point, is_grid=True).number

    assert add(x=1) == 2  # the first point that has it
    assert add(x=2) == 4  # beyond n_trials
    asked = []
    while trial := claim(study, grid, Heartbeat(study)):
        asked.append((trial.params["x"], trial.params["y"]))
        study.tell(trial, 1.0)
    assert asked == [(1, 0), (2, 0), (0, 0), (0, 1), (1, 1)]
    with pytest.raises(ConfigError, match="x=1: each of the 2 points has been begun in sphere"):
        add(x=1)


def test_running_trials_hear_that_they_end(random):
    study = random.open()
    one, two = (claim(study, random, Heartbeat(study)) for _ in range(2))
    told = []
    orders = steering.Orders(study, told.append)
    steering.stop_trial(study, one.number)
    orders.look()
    orders.check(two.number)
    with pytest.raises(TrialStoppedError, match="stopped by the user"):
        orders.check(one.number)
    assert told == [{one.number}]
    steering.stop(study, now=False)
    orders.look()
    orders.check(two.number)
    assert random.why_over(study) == "stopped by `tunewright study sphere stop`"
    steering.stop(study, now=True)
    orders.look()
    with pytest.raises(SearchStopped, match="study sphere stop --now"):
        orders.check(two.number)
    steering.resume(study)
    assert random.why_over(study) is None


def test_stop_says_what_becomes_of_running_and_of_paused_trials(random):
    study = random.open()
    claim(study, random, Heartbeat(study))
    claim(study, random, Heartbeat(study)).set_user_attr(PAUSED_AT, 1)
    said = Steered(study, True, None, None).stop()
    again = "1 paused one to be begun again when it is resumed"
    assert said == f"sphere: no further trial begins, 1 running trial to finish, {again}."


def test_the_point_of_a_dead_trial_that_was_to_end_is_not_tried_again(random):
    study = random.open()
    trial = claim(study, random, Heartbeat(study))
    steering.stop_trial(study, trial.number)
    assert settle_one(study, study.trials[trial.number])
    assert [state_of(t) for t in study.trials] == ["pruned"]


def test_the_run_of_a_dead_trial_that_was_to_end_is_closed_as_pruned(random, working_folder):
    tracking = TrackingConfig(uri=None, dir=str(working_folder), experiment="tunewright")
    store, study = open_store(tracking), random.open()
    store.connect()
    trial = claim(study, random, Heartbeat(study))
    of_trial = {tags.KIND: "trial", tags.STUDY: "sphere", tags.TRIAL: "0", tags.STATE: "running"}
    run_id = store.client.create_run(store.experiment_id, tags=of_trial).info.run_id
    steering.stop_trial(study, trial.number)
    settle_one(study, study.trials[0])
    StudyRecord(tracking, "", ["val/loss"], "val/loss").progressed(study, study.trials)
    closed = store.client.get_run(run_id)
    told = [closed.data.tags.get(tag) for tag in (tags.STATE, tags.REASON)]
    assert [*told, closed.info.status] == ["pruned", "stopped by the user", "KILLED"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "trial 0 of sphere is over (complete); expected one that is running or paused: 1."),
        (2, "trial 2 of sphere has not begun (waiting)"),
        (7, "trial 7 of sphere: there is no such trial, it has trials 0 to 2"),
    ],
)
def test_only_a_trial_that_has_begun_and_is_not_over_can_be_stopped(random, number, said):
    study = random.open()
    study.tell(claim(study, random, Heartbeat(study)), 1.0)
    claim(study, random, Heartbeat(study))
    study.enqueue_trial({"x": 1.0})
    with pytest.raises(ConfigError) as refused:
        steering.stop_trial(study, number)
    assert str(refused.value).startswith(said)
    assert study.trials[1].state == TrialState.RUNNING
