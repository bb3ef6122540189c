"""A record that this account signed names files without being allowed to; any other may not."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.common.errors import ConfigError
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.jobs.rerun import rebuild
from pipeline.tracking.logged import LoggedRun, write_folder
from pipeline.tracking.signature import KEY_VARIABLE, SIGNATURE_FILE, sign

NO_FIT = "Its signature does not fit: the record was changed, or written by another account"


def record(*overrides: str) -> Path:
    """Write the record of a run that was made here, and return its folder."""
    with hydra_app("test") as hydra:
        config = OmegaConf.to_yaml(without_hydra(compose(hydra, overrides)), resolve=True)
    signature = sign("1", config).get(SIGNATURE_FILE, "").encode()
    folder = Path("record").absolute()
    folder.mkdir()
    no = {}
    files = config.encode(), no, no, no, no
    write_folder(LoggedRun("here", "1", "run", None, "complete", *files, b"", signature), folder)
    return folder


def rerun(folder: Path, *overrides: str) -> None:
    with hydra_app("rerun") as hydra:
        rebuild(hydra, str(folder), overrides, [])


@pytest.fixture
def own() -> Path:
    return record("data=files", "data.train=/data/x.csv", "data.validation=[../y.csv,z.csv]")


def refused(folder: Path, *fragments: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        rerun(folder)
    for fragment in fragments:
        assert fragment in str(refusal.value)


def test_own_record_needs_no_allow_where_it_was_run(own):
    rerun(own)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("config.yaml", "seed: 42", "seed: 43", NO_FIT),
        ("results.json", '"run_id": "1"', '"run_id": "2"', NO_FIT),
        ("signature.json", "{", "[", "Its signature cannot be checked"),
        ("signature.json", "config", "configs", NO_FIT),
    ],
)
def test_changed_record_is_refused_as_any_other(own, file, old, new, said):
    text = (own / file).read_text(encoding="utf-8")
    assert old in text
    (own / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    refused(own, "data.train=/data/x.csv lies outside", "add --allow /data, or give", said)


def test_record_of_another_account_is_refused(own, tmp_path_factory, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path_factory.mktemp("home") / "record.key"))
    refused(own, "data.train=/data/x.csv", NO_FIT)
    sign("1", "")  # it has a key as well
    refused(own, "data.train=/data/x.csv", NO_FIT)


def test_unsigned_record_is_refused_without_a_word_of_signatures(own):
    (own / SIGNATURE_FILE).unlink()
    with pytest.raises(ConfigError, match=r"give data\.train=… yourself\.$"):
        rerun(own)


def test_own_record_names_absolute_paths_alone_in_another_folder(
    own, tmp_path_factory, monkeypatch
):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    refused(own, "data.validation=../y.csv", "You ran it in another folder")
    rerun(own, "data.validation=null")


def test_signature_trusts_no_code():
    code = "model.trust_remote_code=owner/name"
    own = record("model=hub", "model.checkpoint=owner/name", code)
    refused(own, f"give {code} yourself.")
