"""MLflow's tables in a local database: they take seconds, so they are made before their place is.

The database is made in a scratch folder, which is gone once it is copied or nobody wants it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

from pipeline.tracking.location import sqlite_url

_CODE = "import sys; from pipeline.tracking.tables import make_tables; make_tables(*sys.argv[1:])"


def import_tables() -> None:
    """Import what a local store's client needs, ahead of its use: it takes seconds."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def make_tables(database: Path | str, artifacts: str) -> None:
    """Make a SQLite database with MLflow's tables, whose default experiment keeps its artifacts."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made = SqlAlchemyStore(sqlite_url(Path(database)), artifacts)
    made.engine.dispose()  # Windows renames no file that is open


class TablesAhead:
    """A database with the tables, made here or by a process beside this one."""

    def __init__(self, artifacts: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.database = Path(self._folder.name, "tables.db")
        self._artifacts = artifacts
        self._is_whole = False
        self.process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make it now."""
        make_tables(self.database, self._artifacts)
        self._is_whole = True

    def begin(self) -> None:
        """Have another process make it; it ends with this one."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(self.database), self._artifacts],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # who makes them then says what is wrong
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PYTHONSAFEPATH": "1",  # a file of the user's folder is no module
            },
        )
        weakref.finalize(self, _end, self.process)

    def copy(self, database: Path) -> bool:
        """Copy it to its place, if it is whole; wait for the process that makes it."""
        if self.process is not None:
            self._is_whole = self.process.wait() == 0
        if self._is_whole:
            shutil.copyfile(self.database, database)
        return self._is_whole

    def __enter__(self) -> TablesAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            _end(self.process)
        self._folder.cleanup()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
