"""Workers wherever a launcher puts them: processes, submitit, Ray; and what follows a death."""

import os
import signal
import sys
import time
from typing import Any

import optuna
import psutil
import pytest

from pipeline.jobs.warm_up import warm_up
from pipeline.search.study import liveness
from pipeline.search.workers import fork_server, launcher, sizing
from pipeline.search.workers.child import Child
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
    ("machine", "asked", "workers", "why"),
    [
        (Machine(2, 16 * GIB), {}, 2, "2 cores, 1 thread each"),
        (Machine(1, 16 * GIB), {}, 1, "1 core, 1 thread each"),
        (Machine(16, 64 * GIB), {}, 16, "16 cores, 1 thread each"),
        (Machine(16, 64 * GIB), {"trials": 3}, 3, "16 cores, 3 to run, 5 threads each"),
        (Machine(16, 64 * GIB), {"threads": 4}, 4, "16 cores, 4 threads each"),
        (
            Machine(16, 64 * GIB),
            {"footprint": LARGE_MODEL},
            3,
            "16 cores, memory for 3, 5 threads each",
        ),
        (
            Machine(16, 8 * GIB),
            {"footprint": LARGE_MODEL},
            1,
            "16 cores, memory for 0, 16 threads each",
        ),
        (
            Machine(16, 64 * GIB),
            {"learns": True},
            8,
            "16 cores, 8 at most, as its sampler learns, 2 threads each",
        ),
        (Machine(16, 64 * GIB, 2, 80 * GIB), {}, 8, "2 GPUs, 4 on each, 2 threads each"),
        (Machine(16, 64 * GIB, 2, 3 * GIB), {}, 4, "2 GPUs, 2 on each, 4 threads each"),
        (Machine(16, 64 * GIB, 2, None), {}, 2, "2 GPUs, 8 threads each"),
        (Machine(16, 64 * GIB, 2, 80 * GIB), {"per_gpu": 1}, 2, "2 GPUs, 8 threads each"),
        (
            Machine(16, 64 * GIB, 2, 80 * GIB),
            {"footprint": LARGE_MODEL},
            2,
            "2 GPUs, 8 threads each",
        ),
        (Machine(16, 64 * GIB, 2, 80 * GIB), {"footprint": 0}, 2, "2 GPUs, 8 threads each"),
    ],
)
def test_auto_chooses_workers_for_the_machine(machine, asked, workers, why):
    plan = choose(machine, **{"footprint": SMALL_MODEL, "trials": 20, **asked})
    assert (plan.workers, plan.why) == (workers, why)


def test_nothing_is_warmed_up_for_a_search_without_workers(monkeypatch):
    monkeypatch.setattr("pipeline.search.workers.sizing.cores", lambda: 2)
    assert may_be_started(["seed=1,2"])
    assert may_be_started(["hydra.sweeper.n_jobs=1", "hydra.sweeper.isolation=trial"])
    for one in ("sweeper.n_jobs=1", "sweeper.dry_run=true"):
        assert not may_be_started([f"hydra.{one}"])
    assert not may_be_started(["hydra/launcher=ray"])
    monkeypatch.setattr("pipeline.search.workers.sizing.cores", lambda: 1)
    assert not may_be_started(["seed=1,2"])


def look_around() -> dict[str, Any]:
    """Return what a worker finds; what is imported here, it had."""
    imported = "pipeline.training.trainer" in sys.modules
    import torch

    return {
        "imported": imported,
        "threads": torch.get_num_threads(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "parent": os.getppid(),
        "drawn": torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).sum().item(),
    }


def die_by_oom() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_a_worker_is_forked_warm_and_is_as_one_that_was_started_anew(monkeypatch):
    monkeypatch.setattr(fork_server.ForkServer, "is_wanted", False)
    environment = dict.fromkeys(sizing.THREAD_VARIABLES, str(sizing.cores()))
    anew = Child(look_around, (), environment)
    warm_up()
    monkeypatch.setenv("LATER", "than the server")
    forked, killed = Child(look_around, (), environment), Child(die_by_oom, (), {})
    assert [child.join() for child in (anew, forked, killed)] == [True, True, False]
    assert killed.process.exitcode == -signal.SIGKILL
    assert forked.result["imported"]
    assert not anew.result["imported"]
    shared = anew.result["environment"].items() & os.environ.items()  # not what C code has set
    assert shared <= forked.result["environment"].items()
    assert forked.result["environment"]["LATER"] == "than the server"
    assert fork_server.SERVER_ENVIRONMENT.keys().isdisjoint(
        forked.result["environment"].keys() - anew.result["environment"].keys()
    )
    assert forked.result["parent"] != os.getpid()
    for name in ("threads", "folder", "blocked", "drawn"):
        assert forked.result[name] == anew.result[name], name
    server = psutil.Process(forked.result["parent"])
    assert server.num_threads() == 1


def test_a_worker_elsewhere_is_dead_once_it_beats_no_more(working_folder, monkeypatch):
    monkeypatch.setattr(liveness, "DEAD_SECONDS", 0.2)
    study = optuna.create_study(storage=f"sqlite:///{working_folder / 'study.db'}")
    trial, watch = study.ask(), liveness.Watch()
    trial.set_user_attr(liveness.OWNER, {"host": "elsewhere", "pid": 1, "started": 0})
    for beat in range(4):  # its clock and its processes are not ours to see, its beats are
        trial.set_user_attr(liveness.BEAT, beat)
        assert not watch.is_dead(study.trials[0])
        time.sleep(0.1)
    time.sleep(0.2)
    assert watch.is_dead(study.trials[0])
