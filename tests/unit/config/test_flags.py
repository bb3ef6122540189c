"""Where configs are read, as Hydra's flags say, is kept in the environment and told again."""

import os
from pathlib import Path

import pytest

from pipeline.common.errors import ConfigError
from pipeline.config.flags import PATH_VARIABLE, config_name, flags, folders, reading_by


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--config-name=night"],
        ["--config-path=team"],
        ["--config-dir=more"],
        ["--config-name=night", "--config-path=team", "--config-dir=more", "--config-dir=other"],
        ["--config-path=/"],
    ],
)
def test_flags_are_told_as_they_were_given(given, working_folder):
    for name in ("team", "more", "other"):
        (working_folder / name).mkdir()
    before = dict(os.environ)
    with reading_by(given):
        assert flags() == given
        with reading_by(given):  # of a search that another command runs again
            assert flags() == given
    assert dict(os.environ) == before


def test_folders_of_flags_come_first_and_conf_stays(working_folder):
    for name in ("team", "more", "conf"):
        (working_folder / name).mkdir()
    with reading_by(["--config-dir=more"]):
        assert [folder.name for folder in folders("conf")[:2]] == ["more", "conf"]
        with reading_by(["--config-path=team", "--config-name=night"]):
            assert folders("conf")[0].name == "team"
            assert config_name() == "night"


def test_a_folder_that_is_not_there_is_refused(monkeypatch):
    with (
        pytest.raises(ConfigError, match="teams: there is no such folder"),
        reading_by(["--config-dir=teams"]),
    ):
        pass
    monkeypatch.setenv(PATH_VARIABLE, f"{Path.cwd()}{os.pathsep}/no/such")
    with pytest.raises(ConfigError, match=f"{PATH_VARIABLE}: /no/such: there is no such folder"):
        folders("conf")
