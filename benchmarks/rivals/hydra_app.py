"""Rival (b): hydra-optuna-sweeper around a plain Trainer, in an environment of its own.

As its documentation has it: a Hydra app and the basic launcher, which runs jobs one after the
other. At its best effort in bfloat16, by the joblib launcher, two processes of one thread.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
import hydra

if TYPE_CHECKING:
    from omegaconf import DictConfig

NOTES = "trials.jsonl"


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(config: DictConfig) -> float:
    """Run one trial, as a Hydra app does, and return its score."""
    began, out = time.time(), Path(config.out)
    if config.best_effort:
        import torch

        torch.set_num_threads(1)
    params = {"learning_rate": config.learning_rate, "batch_size": config.batch_size}
    data = common.load(Path(config.rows), config.limit_rows)
    folder = out / f"trainer-{os.getpid()}"
    score = common.train_once(data, folder, config.best_effort, params)
    with (out / NOTES).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(common.note(params, score, began)) + "\n")
    return score


def main() -> None:
    """Turn our command line into Hydra's, search, and print what came out."""
    given = common.parse("hydra-optuna-sweeper")
    grid: dict[str, list[Any]] = common.GRIDS[given.trials]
    notes = given.out / NOTES
    notes.unlink(missing_ok=True)
    sys.argv[1:] = [
        "--multirun",
        f"rows={given.rows}",
        f"out={given.out}",
        f"limit_rows={'null' if given.limit_rows is None else given.limit_rows}",
        *(f"{name}={','.join(map(str, values))}" for name, values in grid.items()),
    ]
    if given.best_effort:
        os.environ["OMP_NUM_THREADS"] = "1"
        sys.argv += ["best_effort=true", "hydra/launcher=joblib"]
        sys.argv += ["hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2"]
    train()
    trials = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    common.finish(trials, "optuna", "hydra-core", "hydra-optuna-sweeper", "hydra-joblib-launcher")


if __name__ == "__main__":
    main()
