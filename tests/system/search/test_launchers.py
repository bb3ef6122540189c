"""Workers wherever a launcher puts them: processes, submitit, Ray; and what follows a death."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from pipeline.jobs.warm_up import warm_up
from pipeline.search.study import liveness
from pipeline.search.study.trials import KILLED
from pipeline.search.workers import fork_server, launcher, sizing
from pipeline.search.workers.child import Child
from pipeline.search.workers.launcher import Launcher, environment_of
from pipeline.search.workers.sizing import Machine, choose, may_be_started, need

DEADLINE = 120.0  # seconds, for what takes a few
REPORTS = 10  # of some twenty that a trial of `sweep` makes: one that made less is not at its end

PROGRAM = """
import time

import hydra
from omegaconf import DictConfig

SHIFT = 3


def squared(x: float) -> float:
    return x**2


@hydra.main(version_base=None, config_path=".", config_name="config")
def parabola(cfg: DictConfig) -> float:
    time.sleep(cfg.seconds)
    return squared(cfg.x - SHIFT)


if __name__ == "__main__":
    parabola()
"""
CONFIG = """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: grid
  - override hydra/launcher: processes
hydra:
  sweep: {dir: swept}
  sweeper: {n_trials: null, n_jobs: 2, study_name: parabola, params: {x: "range(0,8)"}}
x: 0
seconds: 0.2
"""


@pytest.fixture
def quiet_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ray neither call out of the machine nor write into the home folder."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def parabola(folder: Path, *overrides: str) -> list[str]:
    """Write a plain Hydra program, and return the command that searches over it."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "config.yaml").write_text(CONFIG)
    return [sys.executable, "program.py", "-m", *overrides]


def search_parabola(folder: Path, *overrides: str) -> list[FrozenTrial]:
    """Run a plain Hydra program's search, and return its trials."""
    command = parabola(folder, *overrides)
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "8 of 8 trials done, 0 failed" in ended.stdout
    return trials_in(folder / "swept")


def trials_in(folder: Path) -> list[FrozenTrial]:
    """Return the trials so far; none where the study is not there yet."""
    journal = folder / "study.journal"
    if not journal.is_file():
        return []
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    return [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id)]


@pytest.fixture
def sweep(tiny: list[str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a search over four seeds, whose trials last some seconds, as a user does."""
    started: list[subprocess.Popen[str]] = []

    def start(*overrides: str) -> subprocess.Popen[str]:
        own = [o for o in tiny if not o.startswith("training.epochs")]
        study = ["hydra.sweeper.study_name=deaths", "hydra.sweeper.n_jobs=2"]
        arguments = [*own, "seed=1,2,3,4", "training.epochs=12", *study, *overrides]
        command = [sys.executable, "-m", "pipeline", "train", "-m", *arguments]
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], seen: Callable[[], Any]) -> Any:
    """Return what is seen, once it is; a process that ends before that is a failure."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        if found := seen():
            return found
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"nothing to see: {process.communicate()[0]}")


def victim(may_die: Callable[[int], bool]) -> FrozenTrial | None:
    """Return a running trial of a process that may die, once another trial is complete."""
    trials = trials_in(Path("mlruns/studies/deaths"))
    if all(t.state != TrialState.COMPLETE for t in trials):
        return None
    early = [t for t in trials if len(t.intermediate_values) < REPORTS and "run_id" in t.user_attrs]
    running = [t for t in early if t.state == TrialState.RUNNING]
    return next((t for t in running if may_die(t.user_attrs["owner"]["pid"])), None)


def check_mended(process: subprocess.Popen[str], dead: FrozenTrial, runs) -> None:
    """Check that a search with one dead worker ended complete, its trial tried twice."""
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, out
    assert "4 of 4 trials done, 0 failed" in out
    trials = trials_in(Path("mlruns/studies/deaths"))
    assert [t.number for t in trials if t.user_attrs.get(KILLED)] == [dead.number]
    records = runs("trial")
    seeds = {str(t.number): t.params["seed"] for t in trials}
    states: dict[int, list[str]] = {}
    for tags in (r.data.tags for r in records):
        states.setdefault(seeds[tags["tunewright.trial"]], []).append(tags["tunewright.state"])
    assert states.pop(dead.params["seed"]) == ["failed", "complete"]
    assert list(states.values()) == [["complete"]] * 3
    (killed,) = (r for r in records if r.info.run_id == dead.user_attrs["run_id"])
    assert killed.data.tags["tunewright.reason"].startswith("killed")
    assert "RUNNING" not in {r.info.status for r in [*records, *runs("study")]}


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


def test_the_plan_says_what_auto_chose(cli, tiny):
    auto = [*tiny, "hydra.sweeper.n_jobs=auto", "seed=1,2"]
    ended = cli("train", "-m", *auto, "hydra.launcher.threads=64", "--dry-run")
    assert re.search(r"GridSampler, 1 worker \(auto: \d+ cores?, 64 threads each\)", ended.out)
    ended = cli("train", "-m", *auto, "hydra/launcher=basic", "--dry-run")
    assert "1 worker (auto: this launcher runs them one after the other)" in ended.out
    ended = cli("train", "-m", *auto, "hydra/launcher=submitit_local", "--dry-run")
    assert ended.code == 2
    assert "n_jobs=auto" in ended.err
    assert "expected a whole number from 1" in ended.err
    ended = cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.n_jobs=many")
    assert "expected a whole number from 1, or auto" in ended.err


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


def test_functions_of_the_main_file_run_in_two_processes(working_folder):
    trials = search_parabola(working_folder)
    assert sorted(t.values[0] for t in trials) == sorted((x - 3) ** 2 for x in range(8))
    assert len({t.user_attrs["owner"]["pid"] for t in trials}) == 2


def test_submitit_starts_the_workers(working_folder):
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    trials = search_parabola(working_folder, "hydra/launcher=submitit_local")
    assert sorted(t.params["x"] for t in trials) == list(range(8))
    assert (working_folder / "swept" / ".submitit").is_dir()


@pytest.mark.usefixtures("quiet_ray")
def test_a_local_ray_starts_the_workers(working_folder):
    settings = ["init.include_dashboard=false", "init.num_cpus=2", "remote.num_cpus=1"]
    ray = [f"+hydra.launcher.ray.{setting}" for setting in settings]
    trials = search_parabola(working_folder, "hydra/launcher=ray", *ray)
    assert sorted(t.params["x"] for t in trials) == list(range(8))


def test_a_killed_worker_costs_its_trial_one_more_try(sweep, runs):
    process = sweep()
    dead = wait_for(process, lambda: victim(lambda _: True))
    os.kill(dead.user_attrs["owner"]["pid"], signal.SIGKILL)
    check_mended(process, dead, runs)


def test_a_killed_controller_takes_its_workers_with_it(working_folder):
    command = parabola(working_folder, "seconds=60")
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def two_at_work() -> list[psutil.Process]:
        running = [t for t in trials_in(Path("swept")) if "owner" in t.user_attrs]
        return psutil.Process(process.pid).children(recursive=True) if len(running) == 2 else []

    below = wait_for(process, two_at_work)
    assert len(below) >= 2
    process.kill()
    process.communicate()
    assert psutil.wait_procs(below, timeout=5)[1] == []


@pytest.mark.usefixtures("quiet_ray")
def test_a_node_that_leaves_a_ray_cluster_costs_its_trial_one_more_try(
    sweep, runs, working_folder, monkeypatch
):
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        (working_folder / "elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")  # where a node was started is not where the search is
        leaving = cluster.add_node(**node)
        monkeypatch.chdir(working_folder)
        raylet = leaving.all_processes["raylet"][0].process.pid
        address = f"hydra.launcher.ray.init.address={cluster.address}"
        process = sweep("hydra/launcher=ray", address, "+hydra.launcher.ray.remote.num_cpus=1")
        there = psutil.Process(raylet).children
        dead = wait_for(process, lambda: victim(lambda pid: pid in {p.pid for p in there()}))
        workers = there()
        cluster.remove_node(leaving, allow_graceful=False)
        for worker in workers:  # Ray lets them finish; a machine that is gone does not
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        check_mended(process, dead, runs)
    finally:
        cluster.shutdown()
