"""Workers wherever a launcher puts them: processes, submitit, Ray; and what follows a death."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from pipeline.search.study.trials import KILLED
from tests.support.commands import Started
from tests.support.studies import trials_in
from tests.support.waiting import DEADLINE, wait_until

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


@pytest.fixture
def sweep(tiny: list[str]) -> Iterator[Callable[..., Started]]:
    """Start a search over four seeds, whose trials last some seconds, as a user does."""
    started: list[Started] = []

    def start(*overrides: str) -> Started:
        own = [o for o in tiny if not o.startswith("training.epochs")]
        study = ["hydra.sweeper.study_name=deaths", "hydra.sweeper.n_jobs=2"]
        arguments = [*own, "seed=1,2,3,4", "training.epochs=12", *study, *overrides]
        process = Started("train", "-m", *arguments)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def victim(may_die: Callable[[int], bool]) -> FrozenTrial | None:
    """Return a running trial of a process that may die, once another trial is complete."""
    trials = trials_in(Path("mlruns/studies/deaths"))
    if all(t.state != TrialState.COMPLETE for t in trials):
        return None
    early = [t for t in trials if len(t.intermediate_values) < REPORTS and "run_id" in t.user_attrs]
    running = [t for t in early if t.state == TrialState.RUNNING]
    return next((t for t in running if may_die(t.user_attrs["owner"]["pid"])), None)


def check_mended(process: Started, dead: FrozenTrial, runs) -> None:
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
    assert killed.data.tags["tunewright.reason"].startswith(("killed", "stopped"))
    assert "RUNNING" not in {r.info.status for r in [*records, *runs("study")]}


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


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_trial_of_a_killed_worker_is_tried_again(sweep, runs, sign):
    process = sweep()
    dead = wait_until(lambda: victim(lambda _: True), process)
    os.kill(dead.user_attrs["owner"]["pid"], sign)
    check_mended(process, dead, runs)


def test_killed_controller_ends_its_workers(working_folder):
    command = parabola(working_folder, "seconds=60")
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def two_at_work() -> list[psutil.Process]:
        running = [t for t in trials_in(Path("swept")) if "owner" in t.user_attrs]
        return psutil.Process(process.pid).children(recursive=True) if len(running) == 2 else []

    below = wait_until(two_at_work, process)
    assert len(below) >= 2
    process.kill()
    process.communicate()
    assert psutil.wait_procs(below, timeout=DEADLINE)[1] == []


@pytest.mark.usefixtures("quiet_ray")
def test_trial_on_a_lost_ray_node_is_tried_again(sweep, runs, working_folder, monkeypatch):
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
        dead = wait_until(lambda: victim(lambda pid: pid in {p.pid for p in there()}), process)
        workers = there()
        cluster.remove_node(leaving, allow_graceful=False)
        for worker in workers:  # Ray lets them finish; a machine that is gone does not
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        check_mended(process, dead, runs)
    finally:
        cluster.shutdown()
