"""Hydra's private parts: the only file that imports from ``hydra._internal``.

Hydra's public API (``hydra.main``, ``compose``) does not offer what is used here:

- ``Hydra``: a program without ``@hydra.main``, which composes, checks and runs in its own steps.
- ``create_config_search_path``: such a program's search path.
- ``Callbacks``: what a job's context must hold.
- ``ConfigLoaderImpl.repository``, ``ConfigRepository.load_config`` and ``.sources``: where config
  files are read.
- the module of the basic launcher, by name.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathElement
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext
from omegaconf import DictConfig

from pipeline.config.own_files import read_mapping

__all__ = ["BASIC_LAUNCHER", "Hydra", "context_of", "make_hydra", "own_files", "reading_once"]

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher"  # the module of its class


def make_hydra(job_name: str, folders: Sequence[Path]) -> Hydra:
    """Set Hydra up for config folders, in order of precedence; its global state must be clear."""
    first, *others = folders
    search_path = create_config_search_path(str(first))
    for folder in others:
        search_path.get_path().insert(-1, SearchPathElement("tunewright", f"file://{folder}"))
    hydra = Hydra.create_main_hydra2(task_name=job_name, config_search_path=search_path)
    loader = hydra.config_loader
    if others and isinstance(loader, ConfigLoaderImpl):
        loader.repository = OwnFiles(loader.repository, first)
    return hydra


def own_files(hydra: Hydra) -> OwnFiles | None:
    """Return what was read of the user's own folder, if there is one."""
    files = getattr(hydra.config_loader, "repository", None)
    return files if isinstance(files, OwnFiles) else None


def context_of(hydra: Hydra, config: DictConfig) -> HydraContext:
    """Return what a job outside any sweep runs with."""
    return HydraContext(hydra.config_loader, Callbacks(config))


def reading_once(loader: ConfigLoader) -> ConfigLoader:
    """Return a loader for a worker: rereading files was a quarter of a trial's overhead."""
    if isinstance(loader, ConfigLoaderImpl):
        loader = copy.copy(loader)
        loader.repository = _ReadOnce(loader.repository)
    return loader


class OwnFiles(ConfigRepository):
    """Config files, of which the user's own are noted."""

    def __init__(self, files: ConfigRepository, folder: Path) -> None:
        self.sources = list(files.sources)
        self.given: set[str] = set()  # the keys of the command line
        self._folder = folder
        self._read: dict[str, Path] = {}  # by their place in the config, as a dotted key
        self._own: set[str] = set()  # the keys at the top

    def __deepcopy__(self, _: Any) -> OwnFiles:
        copied = copy.copy(self)  # Hydra composes with a copy: it notes here as well
        copied.sources = list(self.sources)
        return copied

    def load_config(self, config_path: str) -> ConfigResult | None:
        file = self._folder / f"{config_path.removesuffix('.yaml')}.yaml"
        if file.is_file():
            content = read_mapping(file)  # Hydra's own refusals name no file
            place = config_path.rpartition("/")[0].replace("/", ".")
            self._read[place] = file
            if not place:
                self._own |= content.keys()
        return super().load_config(config_path)

    def file_of(self, key: str) -> Path | None:
        """Return the file in whose place in the config a key is, if no override has given it."""
        group = key.rpartition(".")[0]
        if key in self.given or (not group and key not in self._own):
            return None
        return self._read.get(group)


class _ReadOnce(ConfigRepository):
    """Config files as they were when a worker first read them, so all its trials see the same."""

    def __init__(self, files: ConfigRepository) -> None:
        self.sources = list(files.sources)
        self._files = files
        self._read: dict[str, ConfigResult | None] = {}

    def __deepcopy__(self, _: Any) -> _ReadOnce:
        return self  # Hydra composes with a copy, and what that reads is to stay here

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self._read:
            self._read[config_path] = self._files.load_config(config_path)
        # A copy, since Hydra makes the trial's config out of what it gets.
        return copy.deepcopy(self._read[config_path])
