"""Where a local store lies: MLflow keeps absolute addresses, so a copy of one points to another.

The only file that touches MLflow's tables: its API changes no address of what it has.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from pipeline.common.errors import TrackingError
from pipeline.tracking import tags

DATABASE, ARTIFACTS = "mlflow.db", "artifacts"  # in a local store
# What a table has of places in the store, and which rows of one that has other things too.
ADDRESSES = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation' AND"),
    ("tags", "value", f"key = '{tags.STORAGE}' AND"),
)
_WAIT_SECONDS = 60.0  # for another process that writes
_REMEDIES = {  # by what SQLite says of a database that is whole
    "locked": "Another process writes to it: try again when that has ended.",
    "readonly": "Make it writable.",
    "unable to open": "Make it readable.",
    "full": "Free some space on its disk.",
}


def sqlite_url(database: Path) -> str:
    """Return a database's address; unescaped, these signs of a path mean something in a URL."""
    path = re.sub("[%?#]", lambda sign: quote(sign[0]), str(database))
    # After sqlite:/// MLflow makes the database's folder, and by its name as it is written here.
    return f"sqlite:///{path}" if path == str(database) else f"sqlite+pysqlite:///{path}"


def database_file(url: str) -> Path | None:
    """Return the file of a SQLite database's address; None of another one."""
    dialect, sign, path = url.partition("?")[0].partition(":///")
    return Path(unquote(path)) if sign and dialect.startswith("sqlite") else None


def local_path(uri: str) -> str:
    """Return an artifact's URI as a path, where it is one."""
    return url2pathname(urlsplit(uri).path) if uri.startswith("file://") else uri


def artifacts_of(store: Path) -> str:
    """Return the address of a local store's artifacts."""
    return (store / ARTIFACTS).as_uri()


def made_elsewhere(store: Path) -> Path | None:
    """Return the folder in which a store was made, if it is another one now; else None.

    MLflow's experiment 0 is made with the store, so it has the artifacts of both; an experiment
    whose artifacts somebody put elsewhere comes after it.

    Raises:
        TrackingError: where the database cannot be read.
    """
    with _opened(store) as database:
        found = database.execute(
            "SELECT artifact_location FROM experiments WHERE artifact_location LIKE ? "
            "OR artifact_location LIKE ? ORDER BY experiment_id",
            (f"file:%/{ARTIFACTS}/0", f"file:%/{ARTIFACTS}"),
        ).fetchone()
    if found is None:
        return None
    made = Path(local_path(found[0].removesuffix("/0"))).parent
    # One folder may have several names: links, mounts.
    return None if made == store or (made.is_dir() and made.samefile(store)) else made


def settle_in(store: Path, made: Path) -> None:
    """Have a store that was copied or moved look for its files here: all of them or none.

    Args:
        store: its folder.
        made: the one in which it was made; nothing there is touched.

    Raises:
        TrackingError: where the database cannot be written.
    """
    with _opened(store) as database, database:
        database.execute("BEGIN IMMEDIATE")
        for table, column, which in ADDRESSES:
            for old, new in (
                (made.as_uri(), store.as_uri()),
                (str(made), str(store)),
                (f"sqlite:///{made}", sqlite_url(store)),
                (sqlite_url(made), sqlite_url(store)),
            ):
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {which} substr({column}, 1, ?) = ?",
                    (f"{new}/", len(old) + 2, len(old) + 1, f"{old}/"),
                )


@contextmanager
def _opened(store: Path) -> Iterator[sqlite3.Connection]:
    path = store / DATABASE
    try:
        # As SQLite is to open a file, and never to make one.
        address = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, timeout=_WAIT_SECONDS, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        anew = f"Put back a copy of it, or move {store} away to begin a new store."
        remedy = next((text for sign, text in _REMEDIES.items() if sign in str(error)), anew)
        raise TrackingError(f"{path}: the database cannot be used ({error}). {remedy}") from error
