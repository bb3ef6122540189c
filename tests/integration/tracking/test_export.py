"""An exported run: whole, safe to pass on, and enough to run it again."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.tracking import export as exporting
from pipeline.tracking.logged import read
from tests.support.rows import rows, write_rows
from tests.support.stores import make_store, tiny_config

FILES = {
    *("config.yaml", "signature.json", "provenance.json", "inputs.json", "results.json"),
    *("requirements.txt", "rerun.sh", "README.md"),
}


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> list[str]:
    """The override of a store, the id of a trial in it and that of its study."""
    folder = tmp_path_factory.mktemp("export")
    tiny = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(120)))
    store = make_store(folder, ["-m", *tiny, "seed=1,2"])
    (study,), (trial, _) = store.runs("study"), store.runs("trial")
    return [store.where, trial.info.run_id, study.info.run_id]


@pytest.fixture
def forged(cli, made, monkeypatch):
    """Let the record say something else; return what exports it."""

    def write(**changes):
        def forged_read(store, source):
            return replace(read(store, source), **changes)

        monkeypatch.setattr(exporting, "read", forged_read)
        return cli("export", made[1], "out", made[0])

    return write


def test_an_export_has_all_but_data_and_model(cli, made):
    where, trial, _ = made
    ended = cli("export", trial, "deep/out", where)
    assert (ended.code, ended.err) == (0, "")
    folder = Path("deep/out")
    assert {path.name for path in folder.iterdir()} - {"code.diff"} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert f"torch=={provenance['packages']['torch']}" in pins
    assert not any(line.startswith("tunewright") for line in pins)
    assert f"# its source's digest: {provenance['tunewright']['source']}" in lines
    digest = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    assert digest["data"]["splits"]["train"]["digest"] in (folder / "README.md").read_text("utf-8")
    script = folder / "rerun.sh"
    assert os.access(script, os.X_OK)
    assert "tunewright rerun . --verify" in script.read_text(encoding="utf-8")


def test_ones_own_export_is_run_again_and_is_identical(cli, made, monkeypatch):
    where, trial, _ = made
    assert cli("export", trial, "out", where).code == 0
    monkeypatch.chdir("out")
    ended = cli("rerun", ".", "--verify")
    assert ended.code == 0, ended.err
    assert "verdict: identical" in ended.out


def test_an_empty_folder_is_filled_and_stays_the_same_one(cli, made):
    Path("out").mkdir()
    inode = Path("out").stat().st_ino
    assert cli("export", made[1], "out", made[0]).code == 0
    assert Path("out").stat().st_ino == inode
    assert {path.name for path in Path("out").iterdir()} >= FILES


@pytest.mark.parametrize("there", ["folder", "file"])
def test_export_leaves_existing_files_alone(cli, made, there):
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine", encoding="utf-8")
    target = "out" if there == "folder" else "out/mine.txt"
    ended = cli("export", made[1], target, made[0])
    assert ended.code == 2
    assert f"{target}: already exists and is not an empty folder" in ended.err
    assert Path("out/mine.txt").read_text(encoding="utf-8") == "mine"
    assert len(list(Path("out").iterdir())) == 1


def test_an_export_that_cannot_be_written_leaves_nothing(cli, made, monkeypatch):
    def full(logged, folder):
        (folder / "config.yaml").write_bytes(logged.config)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_folder", full)
    before = set(Path().iterdir())
    ended = cli("export", made[1], "out", made[0])
    assert ended.code == 2
    assert "out: cannot be written (No space left on device)" in ended.err
    assert set(Path().iterdir()) == before


def test_partly_moved_export_is_no_run(cli, made, monkeypatch):
    rename = Path.rename

    def full(self, target):
        if self.name == "config.yaml":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    Path("out").mkdir()
    monkeypatch.setattr(Path, "rename", full)
    assert cli("export", made[1], "out", made[0]).code == 2
    assert {path.name for path in Path("out").iterdir()} >= FILES - {"config.yaml"}
    assert "no exported run" in cli("diff", "out", "out").err


def test_what_is_no_run_is_refused(cli, made):
    where, _, study = made
    assert "no such run" in cli("export", "0" * 32, "out", where).err
    assert "a study; expected one of its trials" in cli("export", study, "out", where).err
    assert not Path("out").exists()


def test_a_config_that_could_call_code_is_not_passed_on(forged):
    ended = forged(config=b"model:\n  _target_: os.system\n")
    assert ended.code == 2
    assert "_target_" in ended.err
    assert not Path("out").exists()


def test_a_record_names_no_options_paths_or_commands_to_pip_and_sh(forged):
    packages = {
        "good": "1.0+cpu",
        "-r /etc/passwd\n--index-url http://evil": "1",
        "evil": "1\n--index-url http://evil",
        "other": "1 @ http://evil",
        "hash": "1 --hash=a",
        "a[b]": "1",
        "ending\n": "1",
        "list": ["1"],
    }
    odd = "$(touch x)\n--pre\x1b"
    ended = forged(
        provenance={"packages": packages, "python": odd, "project": {"remote": odd}},
        inputs={"data": {"name": odd, "splits": {odd: {"rows": odd, "digest": odd}}}, "model": 1},
        name="`$(touch y)`",
    )
    assert ended.code == 0, ended.err
    lines = Path("out/requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("# ")] == ["good==1.0+cpu"]
    assert any(line.startswith("# left out: 7 ") for line in lines)
    assert "touch" not in Path("out/rerun.sh").read_text(encoding="utf-8")
    readme = Path("out/README.md").read_text(encoding="utf-8")
    assert "\x1b" not in readme
    shown = [line for line in readme.splitlines() if "touch" in line]
    assert all(line.startswith("    ") for line in shown)
    assert len(shown) == 3
