"""A storage that cannot be used is refused, and its secret stands in no file."""

from pathlib import Path

import pytest


def test_the_command_line_refuses_a_storage_out_of_reach(cli, tiny):
    storage = "hydra.sweeper.storage=postgresql+psycopg://me:secret@127.0.0.1:1/db"
    ended = cli("train", "-m", *tiny, "seed=1,2", storage)
    assert ended.code == 2
    assert "secret" not in ended.err
    assert "127.0.0.1" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_no_file_of_a_search_has_its_storages_secret(cli, tiny, working_folder):
    secret = "hydra.sweeper.storage='sqlite:///s.db?token=sesame'"
    cli("train", "-m", *tiny, "seed=1,2", secret, "hydra/launcher=basic")
    files = [path for path in working_folder.rglob("*") if path.is_file() and path.name != "s.db"]
    assert files
    assert not [path for path in files if b"sesame" in path.read_bytes()]


@pytest.mark.parametrize("line", ["[]", "nonsense", '{"op_code": 99, "worker_id": "x"}'])
def test_a_damaged_journal_is_named_with_its_line(cli, tiny, line):
    given = ("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=bent")
    cli(*given)
    journal = Path("mlruns/studies/bent/study.journal")
    lines = journal.read_text(encoding="utf-8").splitlines()
    journal.write_text("\n".join([*lines[:4], line, *lines[5:], ""]), encoding="utf-8")
    for command in (given, ("report", "bent")):
        ended = cli(*command)
        assert ended.code == 2
        assert "line 5 of the journal is damaged" in ended.err
        assert "warm_start=mlflow:bent" in ended.err
