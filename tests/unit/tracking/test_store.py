"""Where the local store is, what of it MLflow keeps as addresses, and what a fault leaves of it."""

import json
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from pipeline.common.errors import TrackingError
from pipeline.common.process import identity
from pipeline.config.tracking import TrackingConfig
from pipeline.tracking import Store, studies, tags
from pipeline.tracking.context import NOTE
from pipeline.tracking.dead_runs import connect_and_close_dead
from pipeline.tracking.descriptions import describe
from pipeline.tracking.kept_models import delete_model
from pipeline.tracking.location import ADDRESSES, made_elsewhere, settle_in, sqlite_url
from pipeline.tracking.runs import read_json, state_of
from pipeline.tracking.tables import TablesAhead
from tests.support.studies import DEAD


@given(st.text("ab %?#&=+:@;é\\", min_size=1))
def test_a_database_is_where_its_folder_is_called_what_it_may_be(name):
    path = Path("/srv", name, "mlflow.db")
    assert make_url(sqlite_url(path)).database == str(path)


def made_in(folder: Path) -> Store:
    store = Store(TrackingConfig(str(folder), None, "mine"))
    store.connect()
    return store


def places(store):
    """Return where the artifacts of each experiment are."""
    return {e.name: e.artifact_location for e in store.client.search_experiments()}


@pytest.mark.parametrize("beside", [False, True], ids=["here", "beside"])
def test_tables_that_were_made_ahead_are_those_of_the_store(working_folder, monkeypatch, beside):
    plain, ahead = made_in(working_folder / "one"), Store(TrackingConfig("two", None, "mine"))
    ahead.make_tables_ahead(beside=beside)
    assert not Path("two").exists()
    monkeypatch.setattr("pipeline.tracking.store.make_tables", None)  # once is enough
    scratch = ahead._ahead.database.parent
    ahead.connect()
    assert not scratch.exists()
    ours, copied = places(plain), places(ahead)
    assert len(ours) == 2
    assert copied == {name: place.replace("/one/", "/two/") for name, place in ours.items()}
    assert Path("two/mlflow.db").stat().st_mode == Path("one/mlflow.db").stat().st_mode


@pytest.mark.usefixtures("working_folder")
def test_tables_that_could_not_be_made_beside_are_made_at_their_place(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    store = Store(TrackingConfig("one", None, "mine"))
    store.make_tables_ahead(beside=True)
    store.connect()
    assert len(places(store)) == 2


def test_a_file_of_the_users_folder_is_no_module_of_the_process_that_makes_tables(working_folder):
    (working_folder / "alembic.py").write_text("raise SystemExit(1)")
    with TablesAhead("artifacts") as ahead:
        ahead.begin()
        assert ahead.copy(working_folder / "copied.db")


def test_a_process_that_makes_tables_ends_with_who_wanted_them():
    ahead = TablesAhead("artifacts")
    ahead.begin()
    process, scratch = ahead.process, ahead.database.parent
    del ahead
    assert process.returncode == -signal.SIGKILL
    assert not scratch.exists()


def test_mlflows_tables_have_the_addresses_that_a_copy_changes(working_folder):
    made_in(working_folder / "one")
    with closing(sqlite3.connect("one/mlflow.db")) as database:
        for table, column, _ in ADDRESSES:
            known = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            assert column in known, f"a copied store still points to the first one in {table}"


def test_a_moved_store_has_its_own_addresses_and_leaves_others_alone(working_folder):
    one, two = working_folder / "one", working_folder / "two 2%"
    store = made_in(one)
    elsewhere = store.client.create_experiment("elsewhere", (working_folder / "one b").as_uri())
    storages = (f"{one}/studies/a/study.journal", f"sqlite:///{one}/a.db", "postgresql://one/a")
    known = {tags.STORAGE: storages[0], "note": str(one)}
    ids = [
        store.client.create_run(store.experiment_id, tags={**known, tags.STORAGE: s}).info.run_id
        for s in storages
    ]
    one.rename(two)
    assert made_elsewhere(two) == one
    moved = Store(TrackingConfig(str(two), None, "mine"))
    with pytest.raises(TrackingError, match=r"made in .*one and copied or moved to .*two 2%"):
        moved.check_there()
    settle_in(two, one)
    assert made_elsewhere(two) is None
    assert moved.client.get_experiment(elsewhere).artifact_location.endswith("/one%20b")
    runs = [moved.client.get_run(one_id) for one_id in ids]
    assert {run.info.artifact_uri.rpartition("/artifacts/")[0] for run in runs} == {two.as_uri()}
    assert [run.data.tags[tags.STORAGE] for run in runs] == [
        f"{two}/studies/a/study.journal",
        sqlite_url(two / "a.db"),
        "postgresql://one/a",
    ]
    assert runs[0].data.tags["note"] == str(one)


def test_a_database_that_another_process_locks_is_not_called_damaged(working_folder, monkeypatch):
    made_in(working_folder)
    monkeypatch.setattr("pipeline.tracking.location._WAIT_SECONDS", 0.0)
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match=r"mlflow.db: .* locked.* try again when"):
            made_elsewhere(working_folder)


def test_a_store_under_another_name_is_no_copy(working_folder):
    made_in(working_folder / "one")
    Path("link").symlink_to("one")
    assert made_elsewhere(working_folder / "link") is None


def test_a_command_leads_to_the_store_that_it_was_found_in(working_folder):
    store = Store(TrackingConfig(str(working_folder), None, "tunewright"))
    command = store.instead(["seed=1", "tracking.dir=/other", "tracking.experiment=other"])
    assert command == ["seed=1", f"tracking.dir={working_folder}"]


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_store_without_its_database_is_refused_and_left_as_it_is(working_folder, lose):
    store = made_in(working_folder / "one")
    run = store.client.create_run(store.experiment_id)
    store.client.log_text(run.info.run_id, "text", "file.txt")
    lose(working_folder / "one" / "mlflow.db")
    before = sorted(Path("one").rglob("*"))
    for use in (Store.connect, Store.check_there, studies.all_studies):
        with pytest.raises(TrackingError, match=r"one/mlflow.db: .*Put back a copy of it"):
            use(Store(store.config))
    assert sorted(Path("one").rglob("*")) == before


def test_runs_of_dead_processes_are_seen_and_closed(working_folder):
    store = made_in(working_folder)

    def opened(kind: str, process: dict) -> str:
        run_tags = {tags.KIND: kind, tags.STATE: "running", tags.PROCESS: json.dumps(process)}
        study = {tags.STUDY: "s", tags.OBJECTIVE: "val/loss", tags.DIRECTION: "minimize"}
        run = store.client.create_run(store.experiment_id, tags={**run_tags, **study})
        describe(store, run.info.run_id)
        return run.info.run_id

    kinds = ("run", "trial", "study")
    dead, living = [opened(k, DEAD) for k in kinds], [opened(k, identity()) for k in kinds]
    assert [state_of(store.client.get_run(i)) for i in dead] == ["killed"] * 3
    connect_and_close_dead(store)
    runs = [store.client.get_run(i) for i in (*dead, *living)]
    assert [r.info.status for r in runs] == [*["KILLED"] * 3, *["RUNNING"] * 3]
    assert [r.data.tags[tags.STATE] for r in runs[:3]] == ["failed", "failed", "unfinished"]
    said = [r.data.tags[NOTE] for r in runs]
    assert ["running" in text for text in said] == [*[False] * 3, *[True] * 3]


@pytest.mark.parametrize("left", [b"", bytes(9), '{"a": "é'.encode()[:-1], b"[" * 10**5], ids=len)
def test_what_is_left_of_a_json_artifact_is_left_out(working_folder, left):
    store = made_in(working_folder)
    run = store.client.create_run(store.experiment_id)
    Path("check.json").write_bytes(left)
    store.client.log_artifact(run.info.run_id, "check.json")
    assert read_json(store, run, "check.json") is None


def test_a_model_that_two_processes_delete_is_deleted(working_folder, monkeypatch):
    store = made_in(working_folder)
    run_id = store.create_run("run", 0, {})
    store.client.log_text(run_id, "weights", "model/weights")
    delete = shutil.rmtree

    def rmtree(folder, *args, **kwargs):
        delete(folder)  # the other process is first
        delete(folder, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    delete_model(store, run_id)
    assert not store.client.list_artifacts(run_id, "model")
