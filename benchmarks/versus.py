"""Our search beside three rivals, and beside itself with one mechanism after the other off.

MiniLM on 1,000 tweets, 8 configurations, judged on 500 tweets; every line in a process of its own,
one after the other. Then 27 configurations with pruning: how long until a score is there that is
within one standard error of the full grid's best. More than half an hour on two cores, which must
do nothing else. Do not set OMP_NUM_THREADS: a rival has the threads that it takes by itself.

    python benchmarks/versus.py                    # both tables
    python benchmarks/versus.py --all              # with the rivals' further ways
    python benchmarks/versus.py --quick            # 64 rows, 2 trials: whether it all runs
    python benchmarks/versus.py --only "ours; (c) Ray Tune, ASHA"  # these labels
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from mlflow import MlflowClient
from pruning import load, standard_error
from rivals.common import GRIDS, RUNGS

from pipeline.api.guest import quiet_libraries
from pipeline.search.study.budget import seconds_of
from pipeline.search.study.trials import RUN_ID, best_first, counted, state_of
from pipeline.tracking.metrics import own_points

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
RIVALS = HERE / "rivals"
STUDY = "versus"

# To be edited as mechanisms come: what ours has on, and what switches one of them off.
OURS: Mapping[str, str] = {"hydra.sweeper.n_jobs": "auto", "training.precision": "auto"}
ABLATIONS: Mapping[str, Mapping[str, str]] = {
    "float32": {"training.precision": "float32"},
    "one worker": {"hydra.sweeper.n_jobs": "1"},
    "a process a trial": {"hydra.sweeper.isolation": "trial"},
    "whole vocabulary": {"training.active_vocabulary": "false"},
    "without unpadding": {"training.unpadding": "false"},
    "no unpadding, no micro-batches": {
        "training.unpadding": "false",
        "training.micro_batch_tokens": "null",
        "evaluation.batch_size": "64",
    },
}
ON_OURS = "warm workers and precision auto, unpadding, active vocabulary, MLflow"

# Pausing at one rung, the first of sweeps/asha.yaml, where a sample of rows is judged by; the best
# third go on at once, so that the first complete trials come early.
PRUNING: Mapping[str, str] = {
    "hydra/sweeper/pruner": "promote",
    "hydra.sweeper.pruner.eager": "true",
    "hydra.sweeper.pruner.min_resource": f"{RUNGS[0]}",
    "hydra.sweeper.pruner.reduction_factor": "3",
    "evaluation.early_rows": "200",
    "training.eval_every": f"[{RUNGS[0]}]",
}
# The same at both rungs, and new trials first: it costs least, and ends with the best.
PATIENT: Mapping[str, str] = {
    **PRUNING,
    "hydra.sweeper.pruner.eager": "false",
    "training.eval_every": f"[{','.join(map(str, RUNGS))}]",
}
ORDERS = (42, 1, 2)  # of the points: when a good one is met is luck; 42 is the sampler's own
SHUFFLED: Mapping[str, str] = {
    "hydra/sweeper/sampler": "grid",
    "hydra.sweeper.sampler.shuffle": "true",
    "schedule.warmup": "0.02",
}


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    rows: Sequence[str]  # overrides
    grid: str
    large: str  # the grid that is pruned
    sample: int  # of the large grid, that (a) runs for its projection
    ours: int  # how often ours is run a round

    @property
    def count(self) -> int:
        """The configurations of the large grid."""
        sizes = [len(values) for values in GRIDS[self.large].values()]
        return sizes[0] * sizes[1]


FULL = Size(
    ("data.max_train_samples=1000", "data.max_validation_samples=500"), "grid8", "grid27", 3, 2
)
QUICK = Size(
    ("data.max_train_samples=64", "data.max_validation_samples=64"), "grid2", "grid2", 1, 1
)


@dataclass(frozen=True)
class Line:
    """One way to search."""

    label: str
    on: str
    script: str = ""  # of rivals/; empty: ours
    options: Sequence[str] = ()  # of the script
    settings: Mapping[str, str] = field(default_factory=dict)  # of ours
    large: bool = False
    further: bool = False  # with --all, or by its label


def lines() -> list[Line]:
    """Return the lines of the first table, ours first."""
    a, b, c = "hf_search.py", "hydra_app.py", "ray_tune.py"
    best = ("--best-effort",)
    return [
        Line("ours", ON_OURS),
        Line("(a) hyperparameter_search", "one process, float32, MLflow", a),
        Line("(b) hydra-optuna-sweeper", "basic launcher, one process, float32", b),
        Line("(c) Ray Tune, ASHA", "an actor a trial, two at a time, float32", c),
        Line("(a) best effort", "one process, bfloat16, MLflow", a, best),
        Line(
            "(a) best effort, grouped",
            "that, group_by_length",
            a,
            (*best, "--grouped"),
            further=True,
        ),
        Line("(b) best effort", "joblib launcher, two processes, bfloat16", b, best, further=True),
        Line("(c) best effort", "two reused actors, bfloat16", c, best, further=True),
        *(
            Line(f"ours: {label}", ", ".join(f"{k}={v}" for k, v in off.items()), settings=off)
            for label, off in ABLATIONS.items()
        ),
    ]


def large_lines(size: Size) -> list[Line]:
    """Return the lines of the second table; the first of them is the full grid."""
    a, c, sample = "hf_search.py", "ray_tune.py", str(size.sample)
    asha = ("--rungs",)
    return [
        Line("ours, full grid", ON_OURS, settings=SHUFFLED, large=True),
        *(
            Line(
                f"ours, pruned, order {seed}",
                "that, the best third of 0.12 epochs go on at once",
                settings={**SHUFFLED, **PRUNING, "hydra.sweeper.sampler.seed": f"{seed}"},
                large=True,
            )
            for seed in ORDERS
        ),
        Line(
            "ours, promote",
            "that, a third at 0.12 and 0.36 epochs, in the end",
            settings={**SHUFFLED, **PATIENT},
            large=True,
            further=True,
        ),
        Line("(a) full grid", "float32, projected", a, ("--sample", sample), large=True),
        Line(
            "(c) ASHA",
            "an actor a trial, float32, killed at 0.12 and 0.36",
            c,
            asha,
            large=True,
            further=True,
        ),
        Line(
            "(c) ASHA, best effort",
            "reused actors, bfloat16",
            c,
            (*asha, "--best-effort"),
            large=True,
            further=True,
        ),
    ]


@dataclass
class Ran:
    """What one run of a line came to."""

    label: str
    wall: float
    load: float  # average of the machine's before it began
    trials: list[dict[str, Any]]
    error: float | None = None  # standard error of the best score; known of ours
    projected: float | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        """The best score of a trial that was trained to the end."""
        return max((t["score"] for t in self.trials if t["score"] is not None), default=None)

    def reached(self, target: float) -> float | None:
        """Return after how many seconds a score was first this good."""
        reports = [r for t in self.trials for r in t.get("reports", [t])]
        times = [r["ended"] for r in reports if r["score"] is not None and r["score"] >= target]
        return min(times, default=None)


def main() -> None:
    """Run what is asked for, and print the tables."""
    given = _parse()
    quiet_libraries()
    size = QUICK if given.quick else FULL
    given.out.mkdir(parents=True, exist_ok=True)
    needed = [line for line in [*lines(), *large_lines(size)] if _wanted(line, given)]
    with tempfile.TemporaryDirectory(prefix="versus-") as folder:
        bench = Bench(given, size, Path(folder))
        bench.prepare(needed)
        ran = bench.run([line for line in needed if not line.large], given.rounds, "first")
        large = bench.run([line for line in needed if line.large], 1, "second")
    _show_machine(ran + large)
    if ran:
        _show(ran, lines())
    if large:
        _show_large(large, large_lines(size), size)
    if bench.failed:
        sys.exit(f"failed: {', '.join(bench.failed)}; their logs are in {given.out}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--quick", action="store_true", help="64 rows, 2 trials: whether it all runs"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of the first table")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", default="", help="labels, with semicolons")
    which.add_argument("--all", action="store_true", help="with the rivals' further ways")
    parser.add_argument(
        "--out", type=Path, default=Path("mlruns/benchmarks/versus"), help="for logs"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path.home() / ".cache" / "tunewright-benchmarks",
        help="where the environment of (b) is made once",
    )
    parser.add_argument(
        "--python", default=sys.executable, help="that (b)'s environment is made by"
    )
    given = parser.parse_args()
    given.out, given.work = given.out.absolute(), given.work.absolute()
    if given.quick and given.out == Path("mlruns/benchmarks/versus").absolute():
        given.out = given.out.with_name("versus-quick")
    return given


def _wanted(line: Line, given: argparse.Namespace) -> bool:
    if given.only:
        return line.label in (text.strip() for text in given.only.split(";"))
    return given.all or not line.further


class Bench:
    """Runs lines in fresh folders, one after the other."""

    def __init__(self, given: argparse.Namespace, size: Size, scratch: Path) -> None:
        self._given = given
        self._size = size
        self._scratch = scratch
        self._rows = scratch / "rows"
        self._other = Path(sys.executable)  # of (b)
        self._environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        self.failed: list[str] = []

    def prepare(self, needed: Sequence[Line]) -> None:
        """Write the rows, make the environment of (b)."""
        command = [sys.executable, str(RIVALS / "rows.py"), "--out", str(self._rows)]
        environment = {**self._environment, "PYTHONPATH": str(REPOSITORY)}
        subprocess.run([*command, *self._size.rows], check=True, env=environment)
        if any(line.script == "hydra_app.py" for line in needed):
            self._other = make_environment(self._given.work, self._given.python)

    def run(self, needed: Sequence[Line], rounds: int, table: str) -> list[Ran]:
        """Run all lines in turn, and keep what came out after each.

        A table has folders of its own: MLflow goes on to read a database that was there before.
        """
        ran: list[Ran] = []
        order = [
            line
            for number in range(rounds)
            for line in interleaved(needed, number, self._size.ours)
        ]
        print("order:", "; ".join(line.label for line in order), flush=True)
        for number, line in enumerate(order):
            began = time.strftime("%H:%M:%S")
            try:
                ran.append(self._run_one(line, f"{table}-{number:02}"))
            except (subprocess.CalledProcessError, LookupError, ValueError) as error:
                print(f"{began} {line.label}: failed: {error}", flush=True)
                self.failed.append(line.label)
                continue
            last = ran[-1]
            print(f"{began} {line.label}: {last.wall:.1f} s, load {last.load:.1f}", flush=True)
            with (self._given.out / "results.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"began": began, **asdict(last)}) + "\n")
        return ran

    def _run_one(self, line: Line, name: str) -> Ran:
        folder = self._scratch / name
        folder.mkdir()
        command = self._ours(line, folder) if not line.script else self._rival(line, folder)
        log = self._given.out / f"{name}-{re.sub(r'[^a-z0-9]+', '-', line.label.lower())}.log"
        load_before, epoch, began = os.getloadavg()[0], time.time(), time.perf_counter()
        with log.open("w", encoding="utf-8") as stream, log.with_suffix(".out").open("w+") as out:
            subprocess.run(
                command,
                check=True,
                stdout=out,
                stderr=stream,
                env=self._environment,
                cwd=REPOSITORY,
            )
            wall = time.perf_counter() - began
            out.seek(0)
            printed = out.read()
        if line.script:
            result = json.loads(printed.splitlines()[-1])
            projected, versions = result.get("projected"), result["versions"]
            ran = Ran(line.label, wall, load_before, result["trials"], None, projected, versions)
        else:
            ran = Ran(line.label, wall, load_before, *self._read_ours(folder, epoch))
        shutil.rmtree(folder)
        return ran

    def _ours(self, line: Line, folder: Path) -> list[str]:
        grid = GRIDS[self._size.large if line.large else self._size.grid]
        settings = {
            "optimizer.learning_rate": ",".join(f"{value:g}" for value in grid["learning_rate"]),
            "training.batch_size": ",".join(map(str, grid["batch_size"])),
            "training.epochs": "1",
            "hydra.sweeper.study_name": STUDY,
            "tracking.dir": str(folder),
            **OURS,
            **line.settings,
        }
        given = [*self._size.rows, *(f"{key}={value}" for key, value in settings.items())]
        return [sys.executable, "-m", "pipeline", "train", "-m", *given]

    def _rival(self, line: Line, folder: Path) -> list[str]:
        python = self._other if line.script == "hydra_app.py" else sys.executable
        grid = self._size.large if line.large else self._size.grid
        return [
            str(python),
            str(RIVALS / line.script),
            *("--rows", str(self._rows), "--out", str(folder), "--trials", grid),
            *line.options,
        ]

    def _read_ours(self, folder: Path, began: float) -> tuple[list[dict[str, Any]], float]:
        """Return our study's trials, with each evaluation's time, and the best one's error."""
        study = load(folder / "studies" / STUDY / "study.journal", STUDY)
        client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        trials = []
        for trial in counted(study):
            points = client.get_metric_history(trial.user_attrs[RUN_ID], "val/f1_macro")
            reports = [
                {"step": m.step, "score": m.value, "ended": m.timestamp / 1000 - began}
                for m in own_points(points)
            ]
            is_complete = state_of(trial) == "complete"
            trials.append(
                {
                    "params": {key.split(".")[-1]: value for key, value in trial.params.items()},
                    "score": trial.values[0] if is_complete else None,
                    "seconds": seconds_of(trial),
                    "ended": max((report["ended"] for report in reports), default=None),
                    "state": state_of(trial),
                    "reports": reports,
                }
            )
        best = best_first(study)[0].user_attrs[RUN_ID]
        return trials, standard_error(folder, best)


def interleaved(needed: Sequence[Line], number: int, times: int) -> list[Line]:
    """Return a round's order: ours before some of the others; every second round backwards."""
    ours = [line for line in needed if line.label == "ours"]
    others = [line for line in needed if line.label != "ours"]
    order: list[Line] = []
    for place in range(max(len(others), times * len(ours))):
        order += [*(ours if place < times else []), *others[place : place + 1]]
    return order[::-1] if number % 2 else order


def make_environment(work: Path, python: str) -> Path:
    """Make the environment of (b) where it is not there yet, and return its Python."""
    required = (RIVALS / "hydra-optuna.txt").read_text(encoding="utf-8")
    pinned = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    named = {name.lower() for name in re.findall(r"^([\w.-]+)[=<>]", required, re.MULTILINE)}
    kept = [line for line in pinned.splitlines() if line.partition("==")[0].lower() not in named]
    digest = hashlib.sha256("\n".join([required, *kept, python]).encode()).hexdigest()
    folder = work / "hydra-optuna"
    done, executable = folder / "made-of", folder / "bin" / "python"
    if done.is_file() and done.read_text(encoding="utf-8") == digest:
        return executable
    began = time.perf_counter()
    work.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
    install = [str(executable), "-m", "pip", "install", "--quiet", "-c", str(constraints)]
    subprocess.run([*install, "-r", str(RIVALS / "hydra-optuna.txt")], check=True)
    done.write_text(digest, encoding="utf-8")
    print(f"environment of (b): made in {time.perf_counter() - began:.0f} s", flush=True)
    return executable


def _show_machine(ran: Sequence[Ran]) -> None:
    versions = {"tunewright": version("tunewright")}
    for one in ran:
        versions |= {f"{one.label[:3]} {k}": v for k, v in one.versions.items() if k != "python"}
    loads = [one.load for one in ran]
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} cores, {platform.machine()}; ", end=""
    )
    print(f"Python {platform.python_version()}; load before a line {min(loads):.1f} to ", end="")
    print(f"{max(loads):.1f}.\n{', '.join(f'{k} {v}' for k, v in versions.items())}")


def _show(ran: Sequence[Ran], order: Sequence[Line]) -> None:
    walls = {line.label: [r.wall for r in ran if r.label == line.label] for line in order}
    ours = median(walls["ours"]) if walls["ours"] else float("nan")
    print(
        "\n| line | wall | runs | relative to ours | best macro F1 | standard error | what is on |"
    )
    print("|---|---:|---:|---:|---:|---:|---|")
    for line in order:
        own = [r for r in ran if r.label == line.label]
        if not own:
            continue
        wall, spread = median(walls[line.label]), _span(walls[line.label])
        error = "" if own[0].error is None else f"{own[0].error:.4f}"
        best = max((r.best for r in own if r.best is not None), default=float("nan"))
        print(f"| {line.label} | {wall:.1f} s{spread} | {len(own)} | {wall / ours:.2f} | ", end="")
        print(f"{best:.4f} | {error} | {line.on} |")
    print("\nStandard error: of the best trial's macro F1, by resampling its validation rows; the ")
    print("rivals are judged by the same rows, and theirs is about as large.")


def _show_large(ran: Sequence[Ran], order: Sequence[Line], size: Size) -> None:
    full = next((r for r in ran if r.label == order[0].label), None)
    if full is None or full.best is None or full.error is None:
        print("\nThe full grid was not run: there is no target.")
        return
    target = full.best - full.error
    print(f"\n{size.count} configurations. The full grid's best macro F1 is {full.best:.4f}, its ")
    print(f"standard error {full.error:.4f}: the target is {target:.4f}.\n")
    whole = next((r.projected for r in ran if r.label == "(a) full grid"), None)
    print(
        "| line | to the target | of (a)'s grid | whole search | trained to the end "
        "| best macro F1 | what is on |"
    )
    print("|---|---:|---:|---:|---:|---:|---|")
    for line in order:
        for one in (r for r in ran if r.label == line.label):
            reached = one.reached(target)
            first = "not reached" if reached is None else f"{reached:.1f} s"
            share = f"1/{whole / reached:.1f}" if reached and whole else ""
            wall = f"{one.wall:.1f} s"
            if one.projected is not None:
                first, share, wall = "", "", f"{one.projected:.0f} s projected"
            complete = sum(t["score"] is not None for t in one.trials)
            score = "" if one.best is None else f"{one.best:.4f}"
            done = f"{complete} of {len(one.trials)}"
            print(f"| {line.label} | {first} | {share} | {wall} | {done} | {score} | {line.on} |")
    if any(one.projected is not None for one in ran):
        print("\nProjected: from the measured seconds of a sample with every batch size.")


def _span(walls: Sequence[float]) -> str:
    return f" ({min(walls):.1f} to {max(walls):.1f})" if len(walls) > 1 else ""


if __name__ == "__main__":
    main()
