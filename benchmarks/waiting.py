"""How much of a search is not training: before the first step, after the last trial, and between.

    python benchmarks/waiting.py                    # two rounds, interleaved
    python benchmarks/waiting.py --beside ../before # another checkout as well, in the same rounds

- Start: from command to the end of the first optimizer step, over a bare import of torch,
  transformers' Trainer, datasets and MLflow in the same round; of a run and of the demo search.
- End: from the end of the demo's last trial to the prompt.
- Waiting: the share of the demo's worker time, by its own account, that is neither training nor
  evaluation.

Other work on the machine stretches all of a round alike: the ratios stand it, seconds do not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from warm import HOOK, REPOSITORY, STEPS_FILE

from pipeline.api.guest import quiet_libraries
from pipeline.common.timing import TRAINING

BARE = "import torch, transformers.trainer, datasets, mlflow"
TIMED_STEPS = 3  # that an older search made for its forecast
SMALL = ("data.max_train_samples=128", "data.max_validation_samples=16", "training.epochs=1")
WHAT = ("train: first step / bare import", "demo: first step / bare import")
END, WAITING = "demo: last trial to prompt, s", "demo: neither training nor evaluation"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--beside", type=Path, help="another checkout, measured as well")
    given = parser.parse_args()
    quiet_libraries()
    sources = {"here": REPOSITORY, **({"beside": given.beside} if given.beside else {})}
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in sources}
    for _ in range(given.rounds):
        for name, source in sources.items():
            found[name].append(one_round(source.resolve()))
    print(f"| what | {' | '.join(sources)} |")
    print(f"|---|{'---:|' * len(sources)}")
    for what in (*WHAT, END, WAITING):
        of_rounds = [median(one[what] for one in rounds) for rounds in found.values()]
        print(f"| {what} | {' | '.join(f'{value:.2f}' for value in of_rounds)} |")


def one_round(source: Path) -> dict[str, float]:
    """Return what one checkout needs, by what it is."""
    bare = seconds(lambda: subprocess.run([sys.executable, "-c", BARE], check=True))
    with tempfile.TemporaryDirectory() as name:
        began = time.time()
        run(source, Path(name), "train", *SMALL)
        train = first_step(Path(name)) - began
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.time()
        run(source, folder, "sweep", "demo")
        prompt = time.time()
        first = first_step(folder) - began
        last, account = trials_of_demo(folder)
    spent = sum(account.values())
    busy = sum(account.get(phase, 0.0) for phase in (*TRAINING, "evaluation"))
    return dict(
        zip(
            (*WHAT, END, WAITING),
            (train / bare, first / bare, prompt - last, 1 - busy / spent),
            strict=True,
        )
    )


def run(source: Path, folder: Path, *words: str) -> None:
    """Run a command of a checkout in a folder of its own, with the hook that notes steps."""
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(folder), str(source)]),
        STEPS_FILE: str(folder / "steps"),
    }
    command = [sys.executable, "-m", "pipeline", *words]
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def first_step(folder: Path) -> float:
    """Return when the first step of a training ended; a process that only times makes few."""
    lines = (folder / "steps").read_text(encoding="utf-8").splitlines()
    made = Counter(line.split()[1] for line in lines)
    every = (line.split() for line in lines)
    return min(float(when) for when, process in every if made[process] > TIMED_STEPS)


def trials_of_demo(folder: Path) -> tuple[float, Mapping[str, float]]:
    """Return when the last trial ended, and the study's seconds by phase."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    runs = [
        run
        for one in client.search_experiments()
        for run in client.search_runs([one.experiment_id])
    ]
    kinds = {
        kind: [r for r in runs if r.data.tags.get("tunewright.kind") == kind]
        for kind in ("study", "trial")
    }
    last = max(run.info.end_time for run in kinds["trial"]) / 1000
    (study,) = kinds["study"]
    costs = json.loads(Path(client.download_artifacts(study.info.run_id, "cost.json")).read_text())
    return last, costs["account"]["phases"]


def seconds(action: Callable[[], object]) -> float:
    """Return what an action takes by the clock."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
