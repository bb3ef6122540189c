"""Records learning curves: a grid of learning rate × batch size × warm-up on five data sets.

Each point is trained for real, MiniLM with all weights, on three seeds. A line of JSON a training:
scores at every rung on the whole validation split and on samples of 100 and 200 of its rows. What
is recorded already is not trained again, so the script may be stopped at any time.

    python benchmarks/curves/record.py [NAME …] [--seeds 42 43 44]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from curves import FIELDS, HERE, KEYS, RATES, SAMPLES, SHARES, Point, lines_of
from rows import READERS, write

from pipeline.api.guest import quiet_libraries
from pipeline.common.errors import DivergedError
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import Experiment, validate
from pipeline.data.splits import sample
from pipeline.evaluation.significance import standard_error
from pipeline.tasks.base import Examples, Outputs, Task
from pipeline.training.hooks import Infer, TrainingHook

BATCHES = (8, 16, 32)
WARMUPS = (0.0, 0.1)
SEEDS = (42, 43, 44)
EPOCHS = {"topics": 2, "messages": 2}  # the others: 1
COMMON = (
    "model=minilm",
    "training.precision=float32",
    "training.threads=1",
    "training.checkpoint_every=null",
    "training.max_length=48",
    "data.max_train_samples=400",
    "data.max_validation_samples=240",
)
NAMES = (*READERS, "tweets")


def points() -> Iterator[Point]:
    """Yield the grid, shuffled: a part of it is a fair sample."""
    every = list(itertools.product(RATES, BATCHES, WARMUPS))
    random.Random(0).shuffle(every)
    yield from every


def data_of(name: str, folder: Path, test_size: float = 0.05) -> list[str]:
    """Return the overrides that name a data set; its file is written where it has one."""
    if name not in READERS:
        return [f"data={name}"]
    return [
        "data=files",
        f"data.train={write(name, folder)}",
        "data.validation_size=0.3",
        f"data.test_size={test_size:g}",
    ]


def epochs_of(name: str) -> int:
    """Return how long a run on a data set is."""
    return EPOCHS.get(name, 1)


def overrides(name: str, point: Point, seed: int) -> list[str]:
    """Return what makes a config of a point."""
    epochs = epochs_of(name)
    at = ",".join(f"{epochs * share:g}" for share in SHARES[:-1])
    return [
        *COMMON,
        f"training.epochs={epochs}",
        f"training.eval_every=[{at}]",
        *(f"{key}={value}" for key, value in zip(KEYS, point, strict=True)),
        f"seed={seed}",
    ]


class Curve(TrainingHook):
    """Scores each evaluation on all rows of the split and on samples of them."""

    def __init__(self, task: Task[Any], split_seed: int) -> None:
        self._task = task
        self._seed = split_seed
        self.scores: dict[str, list[float]] = {name: [] for name in ("all", *map(str, SAMPLES))}

    def more_metrics(self, examples: Examples, outputs: Outputs, infer: Infer) -> dict[str, float]:
        """Keep the macro F1 of the whole split, and of its samples."""
        del infer
        assert list(examples.row) == list(range(len(examples.rows)))
        self.scores["all"].append(self._score(examples, outputs))
        for rows in SAMPLES:
            taken = sample(examples.rows, rows, self._seed, "validation", "SAMPLES")
            part = {name: array[taken] for name, array in outputs.items()}
            self.scores[str(rows)].append(self._score(examples.of_rows(taken), part))
        self._last = examples, outputs
        return {}

    def _score(self, examples: Examples, outputs: Outputs) -> float:
        return self._task.score(examples, outputs)["f1_macro"]

    def standard_error(self) -> float:
        """Return the standard error of the last score, by resampling the rows."""
        examples, outputs = self._last
        labels = self._task.labels
        truth = np.array([labels.index(label) for label in examples.rows["label"]])
        return standard_error(outputs["logits"].argmax(axis=1), truth, "f1_macro", labels)


def train(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Train once; return the scores at the rungs, the steps to them and the CPU's seconds."""
    from pipeline.training import speedups
    from pipeline.training.checkpoints import Checkpoints
    from pipeline.training.determinism import repeatable
    from pipeline.training.points import Length, evaluation_points
    from pipeline.training.prepare import load_model, prepare
    from pipeline.training.trainer import FineTuner

    data = prepare(experiment, keep=True)
    curve = Curve(data.task, experiment.data.split_seed)
    model = load_model(experiment, data.task, experiment.seed)
    began = time.process_time()
    diverged = False
    with (
        Checkpoints(folder / "checkpoints", 1, of_trial=True) as checkpoints,
        repeatable(experiment.training),
        speedups.apply(experiment, model, data, in_sweep=True) as fast,
    ):
        tuner = FineTuner(experiment, fast, [curve], checkpoints, folder)
        try:
            tuner.fine_tune()
        except DivergedError:
            diverged = True
    length = Length.of(experiment.training, len(fast.examples["train"].dataset))
    return {
        "steps": sorted(evaluation_points(experiment.training, length)),
        "cpu_seconds": round(time.process_time() - began, 2),
        "scores": {name: [round(s, 4) for s in values] for name, values in curve.scores.items()},
        "error": 0.0 if diverged else round(curve.standard_error(), 4),
        "diverged": diverged,
    }


def record(name: str, seed: int, folder: Path) -> None:
    """Train what is not recorded yet of a data set on a seed."""
    lines = [line for line in lines_of(name) if line["seed"] == seed]
    known = {tuple(line[field] for field in FIELDS) for line in lines}
    fixed = data_of(name, folder)
    for point in points():
        if point in known:
            continue
        with hydra_app("curves") as hydra:
            config = compose(
                hydra, [*fixed, *overrides(name, point, seed), f"tracking.dir={folder}"]
            )
        experiment = validate(without_hydra(config))
        line = {**dict(zip(FIELDS, point, strict=True)), "seed": seed, **train(experiment, folder)}
        with (HERE / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(name, line, flush=True)


def main() -> None:
    """Record what is asked for and not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(NAMES))
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    options = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for name in options.names or NAMES:
                record(name, seed, Path(folder))


if __name__ == "__main__":
    main()
