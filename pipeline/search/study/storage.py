"""Where a study is kept: a journal or a database, opened, looked for, and mended."""

import time
from pathlib import Path
from urllib.parse import unquote

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, get_storage
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from pipeline.common.errors import TrackingError, is_disk_fault
from pipeline.common.private import make_file, make_folder
from pipeline.common.secrets import MASK, masked
from pipeline.search.study import journal
from pipeline.search.study.patience import patient

TABLES_SECONDS = 2.0  # in which another process makes the tables of an empty database
DRIVERS = (
    ". Expected postgresql+psycopg://… (pip install 'tunewright[postgres]') or mysql+pymysql://… "
    "(pip install 'tunewright[mysql]'), or the driver that the URL names."
)


# What Optuna raises of a journal or a database that is damaged, locked or no study's.
UNREADABLE = (
    *(KeyError, TypeError, AssertionError, ValueError, AttributeError),
    *(OSError, ImportError, SQLAlchemyError),
)


def open_storage(storage: str) -> BaseStorage:
    """Open a journal, whose folder is made, or a database, whose tables are."""
    if "://" not in storage:
        path = Path(storage)
        make_folder(path.parent)
        return JournalStorage(journal.Journal(str(make_file(path))))
    file = _file_of(storage)
    if file is not None and file.parent.is_dir() and file.name != ":memory:":
        make_file(file)
    try:
        opened = get_storage(storage)
    except (IntegrityError, ProgrammingError):
        # Two that begin on an empty database at once both make its tables, and one of them fails.
        time.sleep(TABLES_SECONDS)
        opened = get_storage(storage)
    return opened if file else patient(opened, storage)


def find_study(name: str, storage: str) -> optuna.Study:
    """Open a study that is there; looking for it makes nothing.

    Raises:
        TrackingError: where it is not there, cannot be read, or its secrets are not known.
    """
    if not storage or MASK in unquote(storage):
        raise TrackingError(
            f"{name}: its parent run does not say how to open its storage"
            f"{f' ({storage}: secrets are not kept)' if storage else ''}. Give it: "
            "hydra.sweeper.storage=…"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        file = _file_of(storage)
        if file is not None and not file.is_file():
            raise FileNotFoundError("there is no such file")
        return optuna.load_study(study_name=name, storage=open_storage(storage))
    except (*UNREADABLE, OptunaError) as error:
        if isinstance(error, OSError) and is_disk_fault(error):
            raise
        moved = f"{masked(str(error))}. Is it elsewhere now? Give hydra.sweeper.storage=…"
        reason = " ".join((damage(storage, name) or moved).split())[:400]
        raise TrackingError(
            f"{name}: the study cannot be opened in {masked(storage)}: {reason}"
        ) from error


def damage(storage: str, name: str) -> str:
    """Say at which line a journal cannot be read, and what is left; nothing where it can be."""
    if "://" in storage or not Path(storage).is_file():
        return ""
    number = journal.damaged_line(Path(storage))
    if number is None:
        return ""
    return (
        f"line {number} of the journal is damaged. What MLflow has of the study can be "
        f"learned from in a new one: hydra.sweeper.warm_start=mlflow:{name}"
    )


def seek_study(name: str, storage: str) -> optuna.Study | None:
    """Open a study, or return None where it is not there yet; looking for it makes nothing.

    Raises:
        TrackingError: where the storage is there and cannot be read.
    """
    try:
        if "://" in storage and not _has_tables(storage):
            return None
        return find_study(name, storage)
    except TrackingError as error:
        missing = isinstance(error.__cause__, KeyError | FileNotFoundError)
        if missing and not damage(storage, name):
            return None
        raise


def _has_tables(storage: str) -> bool:
    """Whether a database has Optuna's tables, which opening it would make."""
    file = _file_of(storage)
    if file is not None and not file.is_file():
        return False
    try:
        engine = create_engine(storage)
        try:
            return inspect(engine).has_table("studies")
        finally:
            engine.dispose()
    except (ImportError, SQLAlchemyError):
        return True  # opening it says what is wrong


def _file_of(storage: str) -> Path | None:
    if "://" not in storage:
        return Path(storage)
    url = make_url(storage)
    if url.query.get("uri"):  # SQLite's own form: the file's name is in there
        return None
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
