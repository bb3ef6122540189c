"""What does not differ from test to test is made once for all of them."""

import gc
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow.utils import requirements_utils

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
        # By SQLite, which decides the mode of a file that it makes.
        with closing(sqlite3.connect(template)) as kept, closing(sqlite3.connect(database)) as made:
            kept.backup(made)
            made.execute("UPDATE experiments SET artifact_location = ?", [f"{artifacts}/0"])
            made.commit()

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


def look_up_once(patch: pytest.MonkeyPatch) -> None:
    """Have MLflow look up a package's version once, not once for each model that is kept."""
    versions = requirements_utils._get_installed_version
    patch.setattr(requirements_utils, "_get_installed_version", cache(versions))


@contextmanager
def no_figures() -> Iterator[None]:
    """Draw none: each command draws some, which takes it as long as the training."""

    def savefig(_: Figure, file: Any, **__: Any) -> None:
        if hasattr(file, "write"):
            file.write("<svg ></svg>")
        else:
            Path(file).touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        yield


@cache
def _freeze(_: int) -> None:
    gc.collect()
    gc.freeze()


def freeze() -> None:
    """Take what is imported by now out of the collector's sight: it never becomes garbage."""
    _freeze(len(sys.modules) // 500)  # again after hundreds more
