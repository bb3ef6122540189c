"""The key that signs an account's records: its own alone, made once, and not needed by a run."""

import logging
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from pipeline.common.errors import ConfigError
from pipeline.tracking.signature import KEY_VARIABLE, SIGNATURE_FILE, own_key, sign, verify


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(working_folder, monkeypatch) -> Path:
    """A new account's home, with a umask that hides nothing."""
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(working_folder))
    before = os.umask(0)
    yield working_folder
    os.umask(before)


def test_key_is_the_accounts_alone_and_made_once_by_processes_that_start_together(home):
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        keys = set(pool.map(_key, range(8)))
    assert len(keys) == 1
    folder = home / ".config" / "tunewright"
    assert mode(folder / "record.key") == 0o600
    assert mode(folder) == 0o700


def _key(_: int) -> bytes:
    return own_key()


def test_key_that_others_can_read_is_not_used(home):
    (signature,) = sign("1", "a: 1").values()
    key = home / ".config" / "tunewright" / "record.key"
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="its mode is 640, expected 600"):
        own_key()
    vouched = verify("1", b"a: 1", signature.encode())
    assert not vouched.own
    assert "its mode is 640" in vouched.reason
    key.chmod(0o600)
    assert verify("1", b"a: 1", signature.encode()).own


def test_home_that_cannot_be_written_leaves_records_unsigned_and_is_said_once(
    home, monkeypatch, caplog
):
    (home / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "file"))
    with caplog.at_level(logging.WARNING):
        assert sign("1", "a: 1") == sign("2", "a: 2") == {}
    (said,) = caplog.messages
    assert "records are not signed" in said
    assert f"{KEY_VARIABLE}=… names another place" in said


def test_what_is_no_key_by_its_size_is_not_read(home):
    own_key()
    os.truncate(home / ".config" / "tunewright" / "record.key", 2**40)
    with pytest.raises(ConfigError, match="found 1,099,511,627,776 bytes, expected a key of 32"):
        own_key()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("given", [b"[]", b'{"config": 1}', b'{"config": "\\ud800"}'])
def test_signature_that_is_none_vouches_for_nothing(given):
    own_key()
    assert not verify("1", b"a: 1", given).own


def test_checking_a_signature_makes_no_key(home):
    assert not verify("1", b"", b'{"config": "00", "folder": "00"}').own
    assert list(home.iterdir()) == []
    assert SIGNATURE_FILE in sign("1", "")
