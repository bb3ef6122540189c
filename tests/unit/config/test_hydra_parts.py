"""Canaries: where a release of Hydra moves what `hydra_parts` touches, these say what broke."""

import importlib
import inspect

import hydra
import pytest
from hydra.types import RunMode

from pipeline.config.compose import CONFIG_NAME, hydra_app
from pipeline.config.hydra_parts import BASIC_LAUNCHER, context_of, reading_once


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


def test_hydra_composes_with_a_loader_that_reads_files_once():
    with hydra_app("canary") as app:
        loader = app.config_loader
        assert reading_once(loader) is loader
        config = loader.load_configuration(CONFIG_NAME, ["seed=7"], RunMode.RUN)
        assert config.seed == 7
        files = loader.repository
        assert files._contents, "Hydra reads config files past ConfigRepository.load_config"
        assert loader._merged, "Hydra merges config files elsewhere"
        assert context_of(app, config).config_loader is app.config_loader
        launcher = loader.load_configuration(
            CONFIG_NAME, ["hydra/launcher=basic"], RunMode.MULTIRUN
        ).hydra.launcher
    assert launcher._target_.startswith(BASIC_LAUNCHER)
