"""Rival (a): Trainer.hyperparameter_search over Optuna, with the MLflow callback.

As its documentation has it: model_init, hp_space, compute_objective, one process. At its best
effort in bfloat16, and with --grouped its batches of rows of about one length as well.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import time
from collections import defaultdict
from statistics import fmean
from typing import Any

import common


def main() -> None:
    """Search, and print what came out."""
    given = common.parse(
        "Trainer.hyperparameter_search",
        sample={"type": int, "help": "run so many of the grid and project the whole"},
        grouped={"action": "store_true", "help": "sample rows of about one length together"},
        epochs={"type": float, "default": common.SAME["num_train_epochs"]},
    )
    grid = common.GRIDS[given.trials]
    chosen = sampled(grid, given.sample) if given.sample else grid
    trials = search(given, chosen)
    more = {"projected": projected(trials, grid)} if given.sample else {}
    common.finish(trials, "optuna", "mlflow", **more)


def search(given: argparse.Namespace, grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Run every combination of the grid."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{given.out / 'mlflow.db'}"
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "hyperparameter_search"
    from optuna.samplers import GridSampler

    data, trials, current = common.load(given.rows, given.limit_rows), [], {}

    def hp_space(trial: Any) -> dict[str, Any]:
        current.update(
            began=time.time(),
            params={name: trial.suggest_categorical(name, grid[name]) for name in grid},
        )
        return common.trainer_names(current["params"])

    def compute_objective(metrics: dict[str, float]) -> float:
        score = metrics["eval_f1_macro"]
        trials.append(common.note(current["params"], score, current["began"]))
        return score

    trainer = common.new_trainer(
        data,
        given.out / "trainer",
        model_init=lambda: common.new_model(data),
        report_to="mlflow",
        bf16=given.best_effort,
        num_train_epochs=given.epochs,
        train_sampling_strategy="group_by_length" if given.grouped else "random",
    )
    trainer.hyperparameter_search(
        direction="maximize",
        backend="optuna",
        hp_space=hp_space,
        compute_objective=compute_objective,
        n_trials=len(list(itertools.product(*grid.values()))),
        sampler=GridSampler(grid),
    )
    return trials


def sampled(grid: dict[str, list[Any]], count: int) -> dict[str, list[Any]]:
    """Return a part of the grid with every batch size: nothing else changes a trial's time."""
    rates, sizes = grid["learning_rate"], grid["batch_size"]
    each = max(1, count // len(sizes))
    spread = [rates[round((i + 0.5) * len(rates) / each - 0.5)] for i in range(each)]
    first = {name: values[:1] for name, values in grid.items()}
    return {**first, "learning_rate": spread, "batch_size": sizes}


def projected(trials: list[dict[str, Any]], grid: dict[str, list[Any]]) -> float:
    """Return the seconds of the whole grid: each batch size's mean trial, and what was before.

    A trial lasts from the end of the one before: what is logged after its score belongs to it.
    """
    seconds, before = defaultdict(list), trials[0]["ended"] - trials[0]["seconds"]
    start_up = before
    for trial in trials:
        seconds[trial["params"]["batch_size"]].append(trial["ended"] - before)
        before = trial["ended"]
    points = math.prod(map(len, grid.values()))
    return start_up + points * fmean(fmean(s) for s in seconds.values())


if __name__ == "__main__":
    main()
