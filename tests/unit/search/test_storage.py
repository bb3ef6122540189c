"""Storages are opened or refused in a paragraph, and their secrets are masked."""

import errno
import fcntl
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf

from pipeline.common.errors import TrackingError
from pipeline.config.compose import without_secrets
from pipeline.search.study.storage import find_study
from tests.support.studies import search_sphere, spec


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:1/db", "postgresql+psycopg://me:***@127.0.0.1"),
        ("postgresql+pg8000://me:secret@127.0.0.1/db", "tunewright[postgres]"),
        ("postgresql+nothing://me:secret@127.0.0.1/db", "tunewright[postgres]"),
        ("postgresql+psycopg://127.0.0.1:1/db?password=secret", "password=***"),
        ("sqlite:////no/such/folder/study.db", "/no/such/folder"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_paragraph(working_folder, storage, shown):
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    with pytest.raises(TrackingError) as refused:
        replace(spec(working_folder, "TPESampler", 5), storage=storage).open()
    message = str(refused.value)
    assert shown in message
    assert "secret" not in message
    assert "\n" not in message
    assert refused.value.exit_code == 2


def test_the_journal_opens_in_optuna_dashboard(working_folder):
    dashboard = pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard")
    search_sphere(spec(working_folder, "TPESampler", 4))
    backend = optuna.storages.journal.JournalFileBackend("study.journal")
    application = dashboard.wsgi(optuna.storages.JournalStorage(backend))
    ((study,),) = (get(application, "/api/studies")["study_summaries"],)
    assert study["study_name"] == "sphere"
    shown = get(application, f"/api/studies/{study['study_id']}")["trials"]
    assert [trial["state"] for trial in shown] == ["Complete"] * 4


def get(application: Callable, path: str) -> dict:
    """Ask a WSGI application, as a browser does."""
    import json
    from wsgiref.util import setup_testing_defaults

    request: dict = {"PATH_INFO": path}
    setup_testing_defaults(request)
    answer: list[str] = []
    body = b"".join(application(request, lambda status, _, __=None: answer.append(status)))
    assert answer[0].startswith("200"), body
    return json.loads(body)


@pytest.mark.parametrize("secret", ["me:sesame@host/db", "me@host/db?sslpassword=sesame"])
def test_no_secret_of_a_url_is_written_down(secret):
    url = f"postgresql+psycopg://{secret}"
    config = OmegaConf.create(
        {
            "hydra": {
                "sweeper": {"storage": url, "warm_start": [f"{url}#old"]},
                "overrides": {"hydra": [f"hydra.sweeper.storage={url}", "hydra.sweeper.n_jobs=2"]},
            }
        }
    )
    OmegaConf.set_readonly(config, True)
    shown = without_secrets(config)
    assert "sesame" not in OmegaConf.to_yaml(shown)
    assert "hydra.sweeper.n_jobs=2" in shown.hydra.overrides.hydra
    assert config.hydra.sweeper.storage == url


def test_a_line_that_a_full_disk_cuts_off_is_not_written(working_folder):
    study = spec(working_folder, "TPESampler", 4).open()
    journal = working_folder / "study.journal"
    before = journal.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            study.set_user_attr("long", "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.read_bytes() == before
    study.set_user_attr("short", 1)
    assert spec(working_folder, "TPESampler", 4).open().user_attrs == {"short": 1}


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_journal_that_is_lost_on_the_way_is_named(working_folder, lose):
    study = spec(working_folder, "TPESampler", 4).open()
    study.set_user_attr("one", 1)
    journal = working_folder / "study.journal"
    lose(journal)
    for use in (study.ask, study.get_trials):
        with pytest.raises(TrackingError, match=r"study.journal: the study's journal cannot be"):
            use()
    assert not journal.is_file() or not journal.read_bytes()  # not half a study


def test_a_journal_whose_score_is_no_number_is_refused_by_its_line(working_folder):
    study = spec(working_folder, "TPESampler", 4).open()
    study.tell(study.ask(), 1.0)
    journal = working_folder / "study.journal"
    text = journal.read_text()
    journal.write_text(text.replace('"values":[1.0]', '"values":["1.0"]'))
    number = text.partition('"values":[1.0]')[0].count("\n") + 1
    with pytest.raises(TrackingError, match=f"line {number} of the journal is damaged"):
        find_study(study.study_name, str(journal))


def test_a_file_system_without_the_kernels_locks_has_optunas(working_folder, monkeypatch):
    def no_lock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    study = spec(working_folder, "TPESampler", 4).open()
    study.set_user_attr("one", 1)
    assert study.user_attrs == {"one": 1}
