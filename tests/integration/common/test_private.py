"""What commands write is for no other account to read, wherever it lies."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.tracking import TrackingConfig
from pipeline.search.study.storage import open_storage
from pipeline.tracking import Store
from tests.support.stores import make_store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
OPEN = ("", "artifacts", "studies", "outputs", "checkpoints", "cache")  # of a store made before


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Have what is made without a mode be readable by all."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def readable(folder: Path) -> list[str]:
    """Return the files with content that other accounts reach and can read or write."""
    found = []
    for path in sorted(folder.iterdir()):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            found += readable(path) if mode & 0o011 else []
        elif mode & 0o066 and path.stat().st_size:
            found.append(str(path))
    return found


def test_others_read_nothing_that_commands_write_in_folders_they_enter(cli, tiny, working_folder):
    for name in OPEN:
        Path("mlruns", name).mkdir()
    store = make_store(working_folder, ["-m", *tiny, "seed=1,2"], [*tiny, "hydra.run.dir=."])
    (run,) = store.runs("run")
    Path("taken").mkdir()
    for command in (
        ("export", run.info.run_id, "exported"),
        ("export", run.info.run_id, "taken"),
        ("check", *tiny, "--fix", "fixed"),
    ):
        assert cli(*command).code == 0
    assert readable(working_folder) == [str(working_folder / "reviews.jsonl")]  # the user's own
    assert {mode_of(Path("mlruns", name)) for name in OPEN} == {0o755}


def test_others_enter_no_new_store():
    Store(TrackingConfig("new/mlruns", None, "tunewright")).connect()
    assert [mode_of(Path("new")), mode_of(Path("new/mlruns"))] == [0o700, 0o700]


def test_a_database_of_ones_own_is_private_as_well(working_folder):
    study, record = working_folder / "studies.db", working_folder / "runs.db"
    open_storage(f"sqlite:///{study}")
    Store(TrackingConfig("mlruns", f"sqlite:///{record}", "tunewright")).connect()
    assert readable(working_folder) == []
    assert study.is_file()
    assert record.is_file()


def test_a_setgid_folder_is_shared_with_its_group_alone(working_folder):
    os.umask(0)
    shared = working_folder / "mlruns"
    shared.mkdir()
    shared.chmod(0o2770)
    Store(TrackingConfig(str(shared), None, "tunewright")).connect()
    database, journal = shared / "mlflow.db", shared / "studies" / "a" / "study.journal"
    open_storage(str(journal))
    assert [mode_of(path) for path in (database, journal.parent, journal)] == [0o660, 0o2770, 0o660]
