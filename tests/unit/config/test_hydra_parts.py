"""Canaries: where a release of Hydra moves what `hydra_parts` touches, these say what broke."""

import importlib
import inspect

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.types import RunMode

from pipeline.config.compose import compose, hydra_app
from pipeline.config.flags import CONFIG_NAME
from pipeline.config.hydra_parts import BASIC_LAUNCHER, context_of, own_files, reading_once


@pytest.mark.parametrize(
    ("module", "name", "parameters", "needed"),
    [
        (
            "hydra",
            "Hydra.compose_config",
            "config_name overrides run_mode",
            "no config is composed",
        ),
        ("hydra", "Hydra.multirun", "config_name task_function overrides", "no search is run"),
        ("utils", "create_config_search_path", "search_path_dir", "conf/ is not found"),
        ("hydra", "Hydra", "task_name config_loader", "no command composes"),
        ("callbacks", "Callbacks", "config", "no job has a context"),
        (
            "config_repository",
            "ConfigRepository.load_config",
            "config_path",
            "files are read again",
        ),
        ("config_loader_impl", "ConfigLoaderImpl", "config_search_path", "files are read again"),
        (
            "config_loader_impl",
            "ConfigLoaderImpl._compose_config_from_defaults_list",
            "defaults repo",
            "files are merged again",
        ),
        (
            "config_loader_impl",
            "ConfigLoaderImpl._load_single_config",
            "default repo",
            "its test says nothing",
        ),
        (
            "core_plugins.bash_completion",
            "BashCompletion._query",
            "config_name line",
            "no key is completed",
        ),
        ("core_plugins.basic_launcher", "BasicLauncher", "", "workers are counted wrongly"),
    ],
)
def test_hydras_private_part_is_where_it_was(module, name, parameters, needed):
    found = importlib.import_module(f"hydra._internal.{module}")
    for part in name.split("."):
        found = getattr(found, part, None)
    moved = f"Hydra {hydra.__version__} has no {module}.{name}({parameters}) any more: {needed}"
    assert found is not None, moved
    assert set(parameters.split()) <= set(inspect.signature(found).parameters), moved


def test_hydra_composes_with_a_loader_that_reads_files_once(monkeypatch):
    with hydra_app("canary") as app:
        loader = app.config_loader
        assert reading_once(loader) is loader
        config = loader.load_configuration(CONFIG_NAME, ["seed=7"], RunMode.RUN)
        assert config.seed == 7
        monkeypatch.setattr(ConfigRepository, "load_config", None)
        monkeypatch.setattr(ConfigLoaderImpl, "_load_single_config", None)
        config.optimizer.learning_rate = 7
        again = loader.load_configuration(CONFIG_NAME, ["seed=8"], RunMode.RUN)
        monkeypatch.undo()
        assert (again.seed, again.optimizer.learning_rate != 7) == (8, True)
        assert context_of(app, config).config_loader is app.config_loader
        launcher = loader.load_configuration(
            CONFIG_NAME, ["hydra/launcher=basic"], RunMode.MULTIRUN
        ).hydra.launcher
    assert launcher._target_.startswith(BASIC_LAUNCHER)


def test_a_key_is_of_the_file_of_ones_own_that_was_composed_last(working_folder):
    group = working_folder / "conf" / "extra"
    group.mkdir(parents=True)
    for name in "ab":
        (group / f"{name}.yaml").write_text("y: 1\n", encoding="utf-8")
    with hydra_app("canary") as app:
        for name in "aba":
            compose(app, [f"+extra={name}"])
        assert own_files(app).file_of("extra.y") == group / "a.yaml"
