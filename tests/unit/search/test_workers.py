"""How many workers there are, what each has of the machine, and when one is dead."""

import optuna
import pytest

from pipeline.search.study import liveness
from pipeline.search.workers import launcher
from pipeline.search.workers.launcher import Launcher, environment_of
from pipeline.search.workers.sizing import Machine, choose, may_be_started, need


def test_each_worker_has_its_cores_and_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr(launcher, "cores", lambda: 8)

    def given(workers: int, per_gpu: int | None) -> list[tuple[str, str]]:
        launcher = Launcher(threads=None, workers_per_gpu=per_gpu, restarts=0)
        every = [environment_of(number, workers, launcher) for number in range(workers)]
        return [(one["CUDA_VISIBLE_DEVICES"], one["OMP_NUM_THREADS"]) for one in every]

    dealt = [("2", "2"), ("5", "2"), ("2", "2"), ("5", "2")]
    assert given(4, per_gpu=None) == dealt
    assert given(2, per_gpu=1) == [("2", "4"), ("5", "4")]
    assert given(4, per_gpu=2) == [("2", "2"), ("2", "2"), ("5", "2"), ("5", "2")]


SMALL_MODEL, LARGE_MODEL, GIB = need(22_000_000), need(1_000_000_000), 2**30


@pytest.mark.parametrize(
    ("machine", "asked", "workers", "threads", "bound"),
    [
        (Machine(2, 16 * GIB), {}, 2, 1, "core"),
        (Machine(1, 16 * GIB), {}, 1, 1, "core"),
        (Machine(16, 64 * GIB), {}, 16, 1, "core"),
        (Machine(16, 64 * GIB), {"trials": 3}, 3, 5, "to run"),
        (Machine(16, 64 * GIB), {"threads": 4}, 4, 4, "core"),
        (Machine(16, 64 * GIB), {"footprint": LARGE_MODEL}, 3, 5, "memory"),
        (Machine(16, 8 * GIB), {"footprint": LARGE_MODEL}, 1, 16, "memory"),
        (Machine(16, 64 * GIB), {"learns": True}, 8, 2, "sampler"),
        (Machine(16, 64 * GIB, 2, 80 * GIB), {}, 8, 2, "4 on each"),
        (Machine(16, 64 * GIB, 2, 3 * GIB), {}, 4, 4, "2 on each"),
        (Machine(16, 64 * GIB, 2, None), {}, 2, 8, "GPU"),
        (Machine(16, 64 * GIB, 2, 80 * GIB), {"per_gpu": 1}, 2, 8, "GPU"),
        (Machine(16, 64 * GIB, 2, 80 * GIB), {"footprint": LARGE_MODEL}, 2, 8, "GPU"),
        (Machine(16, 64 * GIB, 2, 80 * GIB), {"footprint": 0}, 2, 8, "GPU"),
    ],
)
def test_auto_chooses_workers_for_the_machine(machine, asked, workers, threads, bound):
    plan = choose(machine, **{"footprint": SMALL_MODEL, "trials": 20, **asked})
    assert plan.workers == workers
    assert bound in plan.why
    assert f"{threads} thread" in plan.why


def test_nothing_is_warmed_up_for_a_search_without_workers(monkeypatch):
    monkeypatch.setattr("pipeline.search.workers.sizing.cores", lambda: 2)
    assert may_be_started(["seed=1,2"])
    assert may_be_started(["hydra.sweeper.n_jobs=1", "hydra.sweeper.isolation=trial"])
    for one in ("sweeper.n_jobs=1", "sweeper.dry_run=true"):
        assert not may_be_started([f"hydra.{one}"])
    assert not may_be_started(["hydra/launcher=ray"])
    monkeypatch.setattr("pipeline.search.workers.sizing.cores", lambda: 1)
    assert not may_be_started(["seed=1,2"])


def test_worker_elsewhere_is_dead_once_it_beats_no_more(working_folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now[0])
    study = optuna.create_study(storage=f"sqlite:///{working_folder / 'study.db'}")
    trial, watch = study.ask(), liveness.Watch()
    trial.set_user_attr(liveness.OWNER, {"host": "elsewhere", "pid": 1, "started": 0})
    for beat in range(4):  # its clock and its processes are not ours to see, its beats are
        trial.set_user_attr(liveness.BEAT, beat)
        assert not watch.is_dead(study.trials[0])
        now[0] += liveness.DEAD_SECONDS / 2
    assert not watch.is_dead(study.trials[0])
    now[0] += liveness.DEAD_SECONDS
    assert watch.is_dead(study.trials[0])
