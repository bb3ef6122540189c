"""What pruning saves: a full grid, halving that kills, and halving that pauses and promotes.

Four real searches over the 27 configurations of ``sweeps/asha.yaml`` (MiniLM on 2,048 tweets, two
workers). Then the full grid's learning curves are played again to both kinds of halving, through
the same engine, in 20 other orders, since one order may be luck.

    python benchmarks/pruning.py [FOLDER]      # what FOLDER has already is not run again
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import optuna
from mlflow import MlflowClient
from omegaconf import DictConfig
from optuna.trial import FrozenTrial

from pipeline.api.guest import quiet_libraries
from pipeline.common.contract import STATE_AFTER
from pipeline.config.compose import hydra_app
from pipeline.config.flags import CONFIG_NAME
from pipeline.evaluation.significance import standard_error as standard_error_of
from pipeline.search.searchable import Outcome, Searchable, TrialJob
from pipeline.search.space.named import as_overrides, load_sweep
from pipeline.search.study.storage import open_storage
from pipeline.search.study.trials import RUN_ID, best_first, counted, ended, state_of
from pipeline.training.outcome import EPOCH

ROWS = 2048  # of training
ORDERS = 20
SEARCHES = {  # name of the study -> pruner and first rung, in epochs
    "none": ("none", 0.0),
    "asha-0.04": ("asha", 0.04),
    "asha-0.12": ("asha", 0.12),  # as sweeps/asha.yaml has it
    "promote": ("promote", 0.04),
}
REPLAYED = [(pruner, rung) for pruner in ("asha", "promote") for rung in (0.04, 0.12, 0.36)]
Config = tuple[float, int]  # learning rate, batch size


def main() -> None:
    """Run what is not there yet, and print the tables."""
    quiet_libraries()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "mlruns/benchmarks/pruning").absolute()
    studies = {name: search(folder, name, *how) for name, how in SEARCHES.items()}
    full = studies["none"]
    best = best_first(full)[0]
    error = standard_error(folder, best.user_attrs[RUN_ID])
    print("\n| search | first rung | trained to the end | steps | of the full grid | winner |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, study in studies.items():
        steps, rung = steps_of(study), SEARCHES[name][1]
        complete, score = len(ended(study, "complete")), best_first(study)[0].values[0]
        shown = f"{rung:g}" if rung else ""
        print(
            f"| {name} | {shown} | {complete} of {len(counted(study))} | {steps:,} "
            f"| {steps / steps_of(full):.1%} | {score:.4f} |"
        )
    print(f"\nOne standard error of the full grid's best macro F1: {error:.4f}.")
    print(f"\nThe full grid's curves again, in {ORDERS} orders: mean ± standard deviation.\n")
    print("| search | first rung | of the full grid's steps | winner | within one standard error |")
    print("|---|---:|---:|---:|---:|")
    for pruner, rung in REPLAYED:
        replays = [replay(full, pruner, rung, order) for order in range(ORDERS)]
        shares, scores = [r.steps / steps_of(full) for r in replays], [r.score for r in replays]
        near = sum(score >= best.values[0] - error for score in scores)
        print(
            f"| {pruner} | {rung:g} | {fmean(shares):.1%} ± {stdev(shares):.1%} "
            f"| {fmean(scores):.4f} ± {stdev(scores):.4f} | {near} of {ORDERS} |"
        )


def search(folder: Path, name: str, pruner: str, rung: float) -> optuna.Study:
    """Run a search for real, or go on with it."""
    command = [sys.executable, "-m", "pipeline", "sweep", "asha", *overrides(pruner, rung)]
    settings = [
        f"tracking.dir={folder}",
        f"hydra.sweeper.study_name={name}",
        "hydra.sweeper.n_jobs=2",
        f"data.max_train_samples={ROWS}",
        "data.max_validation_samples=512",
        "training.precision=bfloat16",
    ]
    subprocess.run([*command, *settings], check=True)
    return load(folder / "studies" / name / "study.journal", name)


def overrides(pruner: str, rung: float) -> list[str]:
    """Return how a search with this pruner is asked for."""
    options = {"min_resource": rung, "reduction_factor": 3} if rung else {}
    chosen = [f"hydra.sweeper.pruner.{key}={value}" for key, value in options.items()]
    return [f"hydra/sweeper/pruner={pruner}", *chosen]


def load(journal: Path, name: str) -> optuna.Study:
    """Open a study that was run."""
    return optuna.load_study(study_name=name, storage=open_storage(str(journal)))


def config_of(trial: FrozenTrial) -> Config:
    """Return what a trial was run with."""
    return float(trial.params["optimizer.learning_rate"]), int(trial.params["training.batch_size"])


def steps_of(study: optuna.Study) -> int:
    """Return the optimizer steps that all trials made."""
    return sum(math.ceil(max(curve_of(t)) / EPOCH * ROWS / config_of(t)[1]) for t in counted(study))


def curve_of(trial: FrozenTrial) -> dict[int, float]:
    """Return a trial's scores by step; the last one of a complete trial is told, not reported."""
    end = {EPOCH: trial.values[0]} if state_of(trial) == "complete" else {}
    return {**trial.intermediate_values, **end}


def standard_error(folder: Path, run_id: str) -> float:
    """Return the standard error of a run's macro F1, by resampling its validation rows."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    table = predictions_of(client, run_id)
    labels = sorted({*table["label"], *table["prediction"]})
    truth, predicted = (
        np.array([labels.index(label) for label in table[column]])
        for column in ("label", "prediction")
    )
    return standard_error_of(predicted, truth, "f1_macro", labels)


def predictions_of(client: MlflowClient, run_id: str) -> dict[str, list[Any]]:
    """Return a run's predictions, column by column."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(run_id, "predictions.json", folder))
        split = json.loads(path.read_text(encoding="utf-8"))
    return {
        column: [row[place] for row in split["data"]]
        for place, column in enumerate(split["columns"])
    }


@dataclass(frozen=True)
class Replayed:
    """What a search over recorded curves came to."""

    steps: int
    score: float


class Recorded(Searchable):
    """Instead of training, reports what the full grid's trial reported."""

    unit = EPOCH
    can_pause = True

    def __init__(self, curves: Mapping[Config, Mapping[int, float]]) -> None:
        super().__init__(lambda _: None)
        self._curves = curves

    def run(self, config: DictConfig, job: TrialJob) -> Outcome:
        """Play a curve from where it stopped."""
        curve = self._curves[config.optimizer.learning_rate, config.training.batch_size]
        *on_the_way, last = sorted(curve)
        for step in on_the_way:
            if step > job.report.step:
                verdict = job.report(curve[step], step / EPOCH)
                if verdict != "continue":
                    return Outcome([curve[step]], STATE_AFTER[verdict])
        return Outcome([curve[last]])


def replay(full: optuna.Study, pruner: str, rung: float, order: int) -> Replayed:
    """Search the full grid's recorded curves in another order."""
    curves = {config_of(t): curve_of(t) for t in ended(full, "complete")}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        name = f"{pruner}-{order}"
        given = [
            f"tracking.dir={folder}",
            f"hydra.sweeper.study_name={name}",
            "hydra.sweeper.direction=maximize",
            f"hydra.sweeper.sampler.seed={order}",
            "hydra/launcher=basic",
        ]
        with hydra_app("asha") as hydra:
            sweep = as_overrides(load_sweep("asha"), [*overrides(pruner, rung), *given])
            hydra.multirun(CONFIG_NAME, Recorded(curves), sweep)
        study = load(Path(folder, "studies", name, "study.journal"), name)
        return Replayed(steps_of(study), best_first(study)[0].values[0])


if __name__ == "__main__":
    main()
