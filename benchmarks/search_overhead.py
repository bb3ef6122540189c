"""What a search costs beside its trials: 200 trials of an objective that takes no time.

Without arguments it measures and prints tables; with some it is the program that is searched.
"""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median

import hydra
import optuna
import psutil
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from optuna.trial import FrozenTrial, create_trial

from pipeline.search.space.grammar import parse_space
from pipeline.search.study.budget import Budget
from pipeline.search.study.failures import why_hopeless
from pipeline.search.study.liveness import OWNER, Heartbeat
from pipeline.search.study.queue import claim, is_busy
from pipeline.search.study.storage import open_storage
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import counted

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}
WORKERS, TRIALS = (1, 2, 4), 200
ROUNDS = 3  # of which the fastest counts: what else runs on a machine only ever slows it
SIZES, ASKS = (100, 1_000, 10_000), 10  # trials in the study that is asked, and how often it is
SPACE = ("x=interval(-5.0,5.0)", "y=interval(-5.0,5.0)")
EARLY = 20  # the trial from which on memory has to stay as it is
OWN_LIMIT, GROWTH_LIMIT = 0.060, 0.05  # seconds a trial; a share of the memory at trial EARLY
SAMPLES = "samples.txt"  # a line a trial: its number, bytes of its process, own seconds


@dataclass
class Quadratic:
    """The config of the program that is searched."""

    x: float = 0.0
    y: float = 0.0


ConfigStore.instance().store("quadratic", Quadratic)


@hydra.main(version_base=None, config_name="quadratic")
def quadratic(config: Quadratic) -> float:
    """Return the objective, and note what the trial sees of its process."""
    began = time.perf_counter()
    value = config.x**2 + config.y**2
    number, resident = HydraConfig.get().job.num, psutil.Process().memory_info().rss
    with Path(SAMPLES).open("a") as file:
        print(number, resident, time.perf_counter() - began, file=file)
    return value


@dataclass(frozen=True)
class Search:
    """What one search took."""

    per_second: float  # trials of all workers together
    own: float  # seconds of a worker for a trial, less the objective
    early: int  # bytes of the worker that grew most, at its first trial from EARLY on
    late: int  # and at its last

    @property
    def growth(self) -> float:
        """By what share that worker grew."""
        return self.late / self.early - 1


def search(sampler: str, workers: int) -> Search:
    """Run a search as a user does, and read what its trials noted."""
    program = [sys.executable, str(Path(__file__).resolve()), "-m", *SPACE]
    chosen = ["hydra/sweeper=optuna", f"hydra/sweeper/sampler={sampler}"]
    limits = [f"hydra.sweeper.n_trials={TRIALS}", f"hydra.sweeper.n_jobs={workers}"]
    command = [*program, *chosen, "hydra/launcher=processes", *limits, "hydra.sweep.dir=."]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        storage = open_storage(str(Path(folder, "study.journal")))
        trials = counted(optuna.load_study(study_name=None, storage=storage))
        lines = [line.split() for line in Path(folder, SAMPLES).read_text().splitlines()]
    assert len(trials) == len(lines) == TRIALS
    resident = {int(number): int(held) for number, held, _ in lines}
    objective = mean(float(seconds) for *_, seconds in lines)

    of_worker: dict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        of_worker[trial.user_attrs[OWNER]["pid"]].append(trial)
    memory = []
    for own in of_worker.values():
        first = next(t.number for t in own if t.number >= EARLY)
        memory.append((resident[first], resident[own[-1].number]))
    early, late = max(memory, key=lambda pair: pair[1] / pair[0])
    busy = sum(seconds_from_first_ask_to_last_tell(own) for own in of_worker.values())
    per_second = TRIALS / seconds_from_first_ask_to_last_tell(trials)
    return Search(per_second, busy / TRIALS - objective, early, late)


def seconds_from_first_ask_to_last_tell(trials: list[FrozenTrial]) -> float:
    """Return how long a worker, or all of them, took for these trials."""
    asked = [t.datetime_start.timestamp() for t in trials if t.datetime_start]
    told = [t.datetime_complete.timestamp() for t in trials if t.datetime_complete]
    return max(told) - min(asked)


def latencies(sampler: str, size: int) -> tuple[float, float]:
    """Return the median seconds that a worker waits for a trial, and for a score to be taken."""
    draw = random.Random(0).uniform
    with tempfile.TemporaryDirectory() as folder:
        spec = StudySpec(
            name="filled",
            storage=str(Path(folder, "study.journal")),
            directions=("minimize",),
            space=parse_space(SPACE),
            sampler={"_target_": f"optuna.samplers.{SAMPLERS[sampler]}"},
            pruner={},
            reported="minimize",
            unit=1,
            seed=0,
            budget=Budget(size + ASKS),
            max_failure_rate=0.0,
            retries=2,
            trial_seconds=None,
        )
        study, asks, tells = spec.open(), [], []
        points = [{key: draw(-5, 5) for key in "xy"} for _ in range(size)]
        distributions = dict(spec.space.distributions)
        study.add_trials(
            create_trial(params=p, distributions=distributions, value=p["x"] ** 2 + p["y"] ** 2)
            for p in points
        )
        heartbeat = Heartbeat(study)
        for _ in range(ASKS):
            began = time.perf_counter()
            # As a worker: is there a reason to end, does another one run a trial, and what is next.
            over = why_hopeless(study, spec.max_failure_rate) or spec.budget.exhausted(study)
            is_busy(study)
            trial = claim(study, spec, heartbeat)
            asks.append(time.perf_counter() - began)
            assert over is None
            assert trial is not None
            began = time.perf_counter()
            study.tell(trial, [trial.params["x"] ** 2 + trial.params["y"] ** 2])
            heartbeat.release(trial)
            tells.append(time.perf_counter() - began)
    return median(asks), median(tells)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def setting() -> str:
    """Say on what machine this runs, and with what."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = [f"{name} {version(name)}" for name in ("tunewright", "optuna", "hydra-core")]
    processor = models[0] if models else platform.machine()
    python = f"Python {platform.python_version()}"
    return f"{cores()} cores, {processor}; {', '.join([python, *packages])}"


def row(*cells: object) -> None:
    """Print a line of a Markdown table."""
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)


def verdict(what: str, found: float, limit: float, unit: str) -> None:
    """Say whether a requirement is met."""
    kept = "within the limit" if found < limit else "over the limit"
    print(f"- {what}: {found:.1f} {unit} at most, {kept} of {limit:g} {unit}")


def main() -> None:
    """Measure, and print what was found."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searches: dict[tuple[str, int], list[Search]] = defaultdict(list)
    waits: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(ROUNDS):  # all settings in turn, so that a busy minute is not one setting's
        for sampler in SAMPLERS:
            for workers in WORKERS:
                searches[sampler, workers].append(search(sampler, workers))
            for size in SIZES:
                waits[sampler, size].append(latencies(sampler, size))
    found = {key: min(rounds, key=lambda this: this.own) for key, rounds in searches.items()}

    print(f"{setting()}; {TRIALS} trials a search, the fastest of {ROUNDS}\n")
    row(
        "sampler",
        "workers",
        "trials/s",
        "own time a trial",
        f"memory at trial {EARLY}",
        "at the end",
    )
    row(*["---"] * 2, *["---:"] * 4)
    for (sampler, workers), this in found.items():
        own, early, late = 1e3 * this.own, this.early / 1e6, this.late / 1e6
        speed = f"{this.per_second:.1f}"
        row(sampler, workers, speed, f"{own:.0f} ms", f"{early:.1f} MB", f"{late:.1f} MB")
    print()
    row("sampler", "trials in the study", "ask", "tell")
    row("---", *["---:"] * 3)
    for (sampler, size), times in waits.items():
        ask, tell = (1e3 * min(column) for column in zip(*times, strict=True))
        row(sampler, f"{size:,}", f"{ask:.1f} ms", f"{tell:.1f} ms")
    print()
    with_a_core = [this.own for (_, workers), this in found.items() if workers <= cores()]
    growth = max(this.growth for rounds in searches.values() for this in rounds)
    verdict(
        "own time a trial, a core for each worker", 1e3 * max(with_a_core), 1e3 * OWN_LIMIT, "ms"
    )
    verdict(f"growth of memory after trial {EARLY}", 1e2 * growth, 1e2 * GROWTH_LIMIT, "%")


if __name__ == "__main__":
    # Hydra reads the arguments, so those that are there are for the program.
    quadratic() if len(sys.argv) > 1 else main()
