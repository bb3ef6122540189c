"""Runs `tunewright sweep quick` on data sets, beside the whole grid by the plain Trainer's search.

    python benchmarks/curves/real.py [NAME …]

On the rows of the recorded curves, but for a test split of a fifth where the rows are of a file.
The grid is that of the curves, 60 points of as many epochs as quick's; it is projected from one
trial of each batch size. The machine must do nothing else. Do not set OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from curves import HERE
from record import COMMON, data_of

from pipeline.common.tables import Cell, Table, render
from pipeline.search.space.named import load_sweep
from pipeline.search.study.storage import find_study
from pipeline.search.study.trials import best_first, counted, state_of

NAMES = ("languages", "messages")
RIVALS = HERE.parent / "rivals"
STUDY = "quick"
VERDICT = "winner, trial"  # how a confirmation begins
COLUMNS = ("data", "quick's search", "and confirmed", "trained to the end", "best val/f1_macro")
GRID = ("grid, projected", "over the search", "over both")


def printed_by(command: list[str]) -> str:
    """Run a command of this Python and return what it printed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return done.stdout


class Searched(NamedTuple):
    """What quick came to."""

    search: float  # seconds
    confirmed: float  # seconds of both
    complete: int
    trials: int
    best: float
    verdict: str


def quick(rows: list[str], folder: Path) -> Searched:
    """Search and confirm."""
    began = time.time()
    options = [f"tracking.dir={folder}", f"hydra.sweeper.study_name={STUDY}"]
    printed = printed_by(["-m", "pipeline", "sweep", "quick", *rows, *options])
    whole = time.time() - began
    study = find_study(STUDY, str(folder / "studies" / STUDY / "study.journal"))
    trials = counted(study)
    search = max(t.datetime_complete.timestamp() for t in trials if t.datetime_complete) - began
    complete = sum(state_of(trial) == "complete" for trial in trials)
    verdict = printed[printed.index(VERDICT) :].strip()
    best = best_first(study)[0].values[0]
    return Searched(search, whole, complete, len(trials), best, verdict)


def grid(rows: list[str], folder: Path) -> float:
    """Return the projected seconds of the grid by `Trainer.hyperparameter_search`."""
    printed_by([str(RIVALS / "rows.py"), "--out", str(folder / "rows"), *rows])
    epochs = (load_sweep("quick").settings or {})["training.epochs"]
    options = {"rows": folder / "rows", "out": folder / "out", "trials": "grid60", "epochs": epochs}
    given = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    printed = printed_by([str(RIVALS / "hf_search.py"), *given, "--sample", "3"])
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return float(result["projected"])


def main() -> None:
    """Run all that is asked for and print the table, with what each confirmation says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    limits = [o for o in COMMON if o.startswith("data.max_")]
    table: list[list[Cell]] = []
    verdicts = []
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            rows = [*data_of(name, folder, test_size=0.2), *limits]
            ours = quick(rows, folder / "store")
            whole = grid(rows, folder)
        ended = f"{ours.complete} of {ours.trials}"
        times = [f"{ours.search:.0f} s", f"{ours.confirmed:.0f} s"]
        ratios = [f"{whole / some:.1f}" for some in (ours.search, ours.confirmed)]
        table.append([name, *times, ended, f"{ours.best:.4f}", f"{whole:.0f} s", *ratios])
        verdicts.append(f"{name}:\n\n```\n{ours.verdict}\n```\n")
    print(render(Table([*COLUMNS, *GRID], table, left=["data"]), "md"))
    print("\n".join(["", *verdicts]))


if __name__ == "__main__":
    main()
