"""Every second of a process is booked, and a run is set beside what its products need."""

import time
from pathlib import Path

import pytest

from pipeline.common.timing import PHASES
from tests.support.studies import open_study


def test_the_heads_of_a_search_sum_to_its_workers_time(cli, tiny, runs):
    grid = ["optimizer.learning_rate=1e-2,1e-3", "hydra.sweeper.n_jobs=1"]
    began = time.perf_counter()
    cli("train", *tiny)  # takes what was booked before
    took = time.perf_counter() - began
    out = cli("train", "-m", *tiny, *grid).out
    whole = time.perf_counter() - began - took
    assert "\ntime: " in out
    assert "\nfloor: " in out
    totals = [trial.data.metrics["time/total_seconds"] for trial in runs("trial")]
    assert 0.5 * whole < sum(totals) < 1.1 * whole
    for trial in runs("trial"):
        of = trial.data.metrics
        phases = [of[f"time/{phase}_seconds"] for phase in PHASES]
        assert sum(phases) == pytest.approx(of["time/total_seconds"])
        assert all(
            of[f"time/{phase}_seconds"] > 0 for phase in ("evaluation", "optimizer", "compose")
        )
        assert of["time/floor_seconds"] > 0


def test_what_a_failed_trial_took_is_its_own(cli, tiny, runs, monkeypatch):
    from pipeline.training.trainer import FineTuner

    evaluate = FineTuner.evaluate_on

    def slow_and_broken(self, examples):
        if self._experiment.seed == 1:
            time.sleep(1.5)
            raise RuntimeError("broken")
        return evaluate(self, examples)

    monkeypatch.setattr(FineTuner, "evaluate_on", slow_and_broken)
    assert cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine").code == 0
    _, good = runs("trial")
    assert good.data.metrics["time/batches_seconds"] < 1.5
    (bad,) = (t for t in open_study(Path("mlruns/studies/mine")).trials if t.state.name == "FAIL")
    seconds, floor = bad.user_attrs["account"]
    assert (seconds["batches"] > 1.5, floor) == (True, 0.0)


@pytest.mark.parametrize("setting", ["adapter=none", "adapter=lora"])
def test_the_floor_is_that_of_the_trained_model_whether_it_is_kept_or_not(cli, tiny, runs, setting):
    # A run on its own keeps its model; its floor is that of a trial, which may not.
    assert cli("train", *tiny, setting, "seed=2").code == 0
    assert cli("train", "-m", *tiny, setting, "training.max_length=4,16", "seed=2").code == 0
    (alone,) = runs("run")
    short, same = runs("trial")
    floors = [run.data.metrics["time/floor_seconds"] for run in (short, same, alone)]
    assert floors[0] < floors[1] == floors[2]
