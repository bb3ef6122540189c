"""The time of a search and its trials is booked by phase, beside the least it could take."""

import time
from pathlib import Path

import pytest

from pipeline.common.timing import PHASES
from tests.support.stores import cost_of
from tests.support.studies import open_study


def test_phases_of_a_search_sum_to_no_more_than_its_time(cli, tiny, runs):
    grid = ["optimizer.learning_rate=1e-2,1e-3", "hydra.sweeper.n_jobs=1"]
    began = time.perf_counter()
    cli("train", *tiny)  # takes what was booked before
    out = cli("train", "-m", *tiny, *grid).out
    whole = time.perf_counter() - began
    assert "\ntime: " in out
    accounts = [cost_of(trial)["account"] for trial in runs("trial")]
    totals = [account["seconds"] for account in accounts]
    assert 0 < sum(totals) <= whole
    for account in accounts:
        phases = account["phases"]
        assert phases.keys() <= set(PHASES)
        assert sum(phases.values()) == pytest.approx(account["seconds"])
        assert min(phases[phase] for phase in ("evaluation", "optimizer", "compose")) > 0
        assert account["lower_bound"] > 0


def test_time_of_a_failed_trial_is_booked_on_that_trial(cli, tiny, runs, monkeypatch):
    from pipeline.training.trainer import FineTuner

    evaluate, clock, late = FineTuner.evaluate_on, time.perf_counter, []

    def slow_and_broken(self, examples):
        if not late:  # in the first trial
            late.append(1000.0)
            raise RuntimeError("broken")
        return evaluate(self, examples)

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + sum(late))

    monkeypatch.setattr(FineTuner, "evaluate_on", slow_and_broken)
    assert cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine").code == 0
    _, good = runs("trial")
    assert cost_of(good)["account"]["seconds"] < 1000
    (bad,) = (t for t in open_study(Path("mlruns/studies/mine")).trials if t.state.name == "FAIL")
    seconds, floor = bad.user_attrs["account"]
    assert sum(seconds.values()) > 1000
    assert floor == 0.0


@pytest.mark.parametrize("setting", ["adapter=none", "adapter=lora"])
def test_compute_lower_bound_is_equal_for_kept_and_discarded_models(cli, tiny, runs, setting):
    # A run on its own keeps its model; its floor is that of a trial, which may not.
    assert cli("train", *tiny, setting, "seed=2").code == 0
    assert cli("train", "-m", *tiny, setting, "training.max_length=4,16", "seed=2").code == 0
    (alone,) = runs("run")
    short, same = runs("trial")
    floors = [cost_of(run)["account"]["lower_bound"] for run in (short, same, alone)]
    assert floors[0] < floors[1] == floors[2]
