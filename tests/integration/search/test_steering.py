"""A search that is steered while it runs: its trials, its end, its record, and what is refused."""

import itertools
from pathlib import Path

import optuna
import pytest

from pipeline.search.study import steering
from pipeline.search.study.trials import REASON
from pipeline.search.workers.worker import TrialLoop
from pipeline.tasks.classification import Classification
from tests.support.rows import rows, write_rows
from tests.support.stores import Made, make_store, tiny_config
from tests.support.studies import open_study
from tests.support.waiting import wait_until

PROMOTE = (
    "hydra/sweeper/pruner=promote",
    "hydra.sweeper.pruner.min_resource=1",
    "training.eval_every=1.0",
    "training.epochs=9",
)


def test_users_end_a_paused_trial_a_training_one_and_the_search(cli, tiny, runs, monkeypatch):
    def steered(self):
        study, number = open_study(Path("mlruns/studies/mine")), next(calls)
        if number == 1:
            steering.stop_trial(study, 0)
            wait_until(lambda: study.trials[0].state.is_finished())  # while this one runs
        elif number == 2:
            steering.stop_trial(study, 2)
        elif number == 3:
            steering.stop(study, now=False)
        return load(self)

    def tell_at_second_try(study, trial, *given, **named):
        if getattr(trial, "number", trial) == 0 and next(tells) == 0:
            raise OSError("the storage is away")
        return tell(study, trial, *given, **named)

    def left(self, trial, why):
        (run,) = (t for t in runs("trial") if t.data.tags["tunewright.trial"] == str(trial.number))
        closed.append(run.data.tags["tunewright.state"])
        return leave(self, trial, why)

    closed: list[str] = []
    leave = TrialLoop._leave
    monkeypatch.setattr(TrialLoop, "_leave", left)
    tells, tell = itertools.count(), optuna.Study.tell
    monkeypatch.setattr(optuna.Study, "tell", tell_at_second_try)
    calls, load = itertools.count(), Classification.load_model
    monkeypatch.setattr(steering, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Classification, "load_model", steered)
    given = ("train", "-m", *tiny, "seed=1,2,3,4,5,6", "hydra.sweeper.study_name=mine", *PROMOTE)
    ended = cli(*given)
    assert ended.code == 0, ended.err
    assert "stopped by `tunewright study mine stop`. Run the same command to resume." in ended.out
    assert "2 of 6 trials done, 0 failed, 2 pruned, 2 killed and run again" in ended.out
    assert "pruned at 1, stopped by the user" in ended.out
    trials = runs("trial")
    states = [(t.data.tags["tunewright.state"], t.info.status) for t in trials]
    assert states == [("pruned", "KILLED"), ("failed", "KILLED")] * 2
    assert closed == ["failed"] * 2  # before the controller can see them killed in the study
    reasons = [t.data.tags["tunewright.reason"] for t in trials]
    why = "killed: stopped by `tunewright study mine stop`"
    assert reasons == ["stopped by the user", why] * 2
    assert [
        t.user_attrs.get(REASON) for t in open_study(Path("mlruns/studies/mine")).trials[:4]
    ] == [None, why] * 2
    assert "(stopped by the user)" in trials[2].data.tags["mlflow.note.content"]
    assert [s.data.tags["tunewright.state"] for s in runs("study")] == ["unfinished"]

    again = cli(*given)
    assert again.code == 0, again.err
    assert "6 of 6 trials done" in again.out


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model) -> Made:
    """A store with a study that is over."""
    folder = tmp_path_factory.mktemp("steered")
    given = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(120)))
    named = "hydra.sweeper.study_name=mine"
    return make_store(folder, ["-m", *given, "seed=choice(1,2)", named])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mine stop", "study mine is not running (complete): stop ends a search that runs."),
        ("mine stop-trial 0", "study mine is not running (complete): stop-trial"),
        ("mne stop", "experiment tunewright. Did you mean mine? Known: mine."),
        ("mine stop-trial first", "stop-trial: found first; expected a trial's number."),
        ("mine stop-trial 1 --now", "--now: stop-trial takes effect at once anyway"),
        ("mine add", "add: expected the keys of a point"),
        ("mine add sed=1", "study mine, add: sed is not searched. Did you mean seed?"),
        ("mine add seed=3", "study mine, add: seed=3 is not in its space, 1, 2"),
        ("mine add seed=2", "seed=2: the point has been begun in mine: trial 1 is complete."),
    ],
)
def test_what_cannot_be_steered_is_refused(cli, finished, words, said):
    refused = cli("study", *words.split(), finished.where)
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.count("\n") == 1


def test_a_point_is_added_to_a_study_that_waits_to_be_resumed(cli, tiny, runs):
    given = ("train", "-m", *tiny, "seed=choice(1,2,3)", "hydra.sweeper.study_name=mine")
    limited = (*given, "hydra.sweeper.n_trials=1")
    cli(*limited)
    added = cli("study", "mine", "add", "seed=3")
    assert added.code == 0, added.err
    assert "trial 1 of mine: seed=3; one more than n_trials, the search's own" in added.out
    again = cli(*limited)
    assert "2 of 2 trials done" in again.out, again.err
    assert [t.data.params["seed"] for t in runs("trial")] == ["1", "3"]
    assert runs("trial")[1].data.tags["tunewright.point"] == "added by the user"
