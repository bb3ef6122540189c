"""What does not differ from test to test is made once for all of them."""

import gc
import shutil
import sqlite3
import sys
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.config.training import TrainingConfig
from pipeline.tracking import store
from pipeline.training import speed


def copy_tables(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have MLflow's tables made once, in a folder, and copied: they take it two seconds."""
    make_tables, template = store.make_tables, folder / "mlflow.db"

    def copied(database: Path, artifacts: str) -> None:
        with FileLock(folder / "mlflow.lock"):
            if not template.exists():
                make_tables(folder / "making.db", artifacts)
                (folder / "making.db").replace(template)
        shutil.copy(template, database)
        with sqlite3.connect(database) as made:
            made.execute("UPDATE experiments SET artifact_location = ?", [f"{artifacts}/0"])
        made.close()

    patch.setattr(store, "make_tables", copied)


def measure_once(patch: pytest.MonkeyPatch) -> None:
    """Have a process measure the machine once for each precision, not once for each store."""
    measure = speed.matmul_rate

    def once(training: TrainingConfig) -> float:
        key = training.precision, training.threads
        if key not in rates:
            rates[key] = measure(training)
        return rates[key]

    rates: dict[tuple[str, int | None], float] = {}
    patch.setattr(speed, "matmul_rate", once)


@cache
def _freeze(_: int) -> None:
    gc.collect()
    gc.freeze()


def freeze() -> None:
    """Take what is imported by now out of the collector's sight: it never becomes garbage."""
    _freeze(len(sys.modules) // 500)  # again after hundreds more
