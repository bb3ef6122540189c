"""A search keeps with its command line where its configs are read: Hydra's flags."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from tests.support.failing import fail_first
from tests.support.refusals import refused_beside as refused

NIGHT = "defaults:\n  - base\n  - override optimizer: mine\n  - _self_\n"
FLAGS = ["--config-name=night", "--config-path=team", "--config-dir=more"]


@pytest.fixture
def searched(cli, tiny, monkeypatch):
    """A study of two trials, searched with flags; the first failed."""
    for file, text in (
        ("team/night.yaml", NIGHT),
        ("more/optimizer/mine.yaml", "name: Adagrad\nlearning_rate: 0.1\nweight_decay: 0.0\n"),
    ):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)
    fail_first(monkeypatch)
    given = ("-cn", "night", "-cp", "team", "-cd", "more", "seed=1,2", "training.epochs=1")
    assert cli("train", "-m", *tiny, *given, "hydra.sweeper.study_name=mine").code == 0


def command_in(text: str) -> list[str]:
    on_one_line = text.replace(" \\\n", " ")
    return shlex.split(on_one_line.rpartition("tunewright ")[2].partition("\n")[0])


@pytest.mark.usefixtures("searched")
def test_commands_that_run_it_again_have_its_flags(cli, runs):
    again = command_in(cli("best", "mine").out)
    shown = cli(again[0], "--cfg", "job", *again[1:])
    assert yaml.safe_load(shown.out)["optimizer"]["name"] == "Adagrad", shown.err
    (study,) = runs("study")
    assert command_in(study.data.tags["mlflow.note.content"])[:5] == ["train", "-m", *FLAGS]
    for trial in runs("trial"):
        assert json.loads(trial.data.tags["tunewright.overrides"])[:3] == FLAGS


@pytest.mark.usefixtures("searched")
def test_a_retry_and_a_confirmation_compose_as_the_search_did(cli, runs):
    refused(cli("retry", "mine", "-cd", "more"), "--config-name=night", "with --config-dir=more")
    assert "2 of 2 trials done, 0 failed" in cli("retry", "mine").out
    ended = cli("confirm", "mine", "--seeds", "2")
    assert ended.code == 0, ended.err
    optimizers = [run.data.params["optimizer.name"] for run in runs("trial")]
    assert optimizers == ["Adagrad"] * (3 + 4)


@pytest.mark.usefixtures("searched")
def test_flags_that_nobody_vouches_for_are_not_followed(cli, runs, monkeypatch, tmp_path):
    monkeypatch.setenv("TUNEWRIGHT_KEY_FILE", str(tmp_path / "another.key"))
    refused(cli("retry", "mine"), "read with --config-name=night", "with no flags")
    assert len(runs("trial")) == 2
