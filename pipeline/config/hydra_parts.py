"""Hydra's private parts: the only file that imports from ``hydra._internal``.

Hydra's public API (``hydra.main``, ``compose``) does not offer what is used here:

- ``Hydra``: a program without ``@hydra.main``, which composes, checks and runs in its own steps.
- ``create_config_search_path``: such a program's search path.
- ``Callbacks``: what a job's context must hold.
- ``ConfigLoaderImpl.repository``, ``ConfigRepository.load_config`` and ``.sources``: where config
  files are read; ``._compose_config_from_defaults_list``: where they are merged.
- ``CompletionPlugin._query``: what may stand next on a command line.
- the module of the basic launcher, by name.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathElement
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext
from omegaconf import DictConfig

from pipeline.config.own_files import read_mapping
from pipeline.config.tokenizer import name_tokenizer

__all__ = [
    "BASIC_LAUNCHER",
    "Hydra",
    "completions",
    "context_of",
    "make_hydra",
    "own_files",
    "reading_once",
]

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher"  # the module of its class


def make_hydra(job_name: str, folders: Sequence[Path]) -> Hydra:
    """Set Hydra up for config folders, in order of precedence; its global state must be clear."""
    first, *others = folders
    search_path = create_config_search_path(str(first))
    for folder in others:
        search_path.get_path().insert(-1, SearchPathElement("tunewright", f"file://{folder}"))
    loader = _OwnLoader(search_path, folders[:-1])
    hydra = Hydra(task_name=job_name, config_loader=loader)
    GlobalHydra.instance().initialize(hydra)
    return hydra


def own_files(hydra: Hydra) -> OwnFiles:
    """Return what was read of the user's own folder."""
    assert isinstance(hydra.config_loader, _Loader)
    return hydra.config_loader.repository


def completions(hydra: Hydra, config_name: str, line: str) -> list[str]:
    """Return what the last word of a line of overrides may become; the groups come first."""
    from hydra._internal.core_plugins.bash_completion import BashCompletion

    return list(BashCompletion(hydra.config_loader)._query(config_name, line))


def context_of(hydra: Hydra, config: DictConfig) -> HydraContext:
    """Return what a job outside any sweep runs with."""
    return HydraContext(hydra.config_loader, Callbacks(config))


def reading_once(loader: ConfigLoader) -> ConfigLoader:
    """Return a loader that reads each file once; that of another program is made anew."""
    if isinstance(loader, ConfigLoaderImpl) and not isinstance(loader, _Loader):
        return _Loader(loader.get_search_path(), ())
    return loader


class _Loader(ConfigLoaderImpl):
    """Reads each file once, and merges the same files once: it is most of a trial's overhead."""

    repository: OwnFiles

    def __init__(self, search_path: ConfigSearchPath, own: Sequence[Path]) -> None:
        super().__init__(search_path)
        self.repository = OwnFiles(self.repository, own)
        self._merged: dict[str, DictConfig] = {}

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        key = repr((defaults, [source.path for source in repo.get_sources()]))
        if key not in self._merged:
            self._merged[key] = super()._compose_config_from_defaults_list(defaults, repo)
        return copy.deepcopy(self._merged[key])


class _OwnLoader(_Loader):
    """Composes experiments, and not another program's configs."""

    def load_configuration(self, *given: Any, **also: Any) -> DictConfig:
        config = super().load_configuration(*given, **also)
        name_tokenizer(config)
        return config


class OwnFiles(ConfigRepository):
    """Config files as they were when first read; the user's own are noted."""

    def __init__(self, files: ConfigRepository, folders: Sequence[Path]) -> None:
        self.sources = list(files.sources)
        self.given: set[str] = set()  # the keys of the command line
        self._folders = folders
        self._contents: dict[tuple[str, ...], ConfigResult | None] = {}  # by name and sources
        self._read: dict[str, Path] = {}  # by their place in the config, as a dotted key
        self._own: set[str] = set()  # the keys at the top

    def __deepcopy__(self, _: Any) -> OwnFiles:
        copied = copy.copy(self)  # Hydra composes with a copy: it reads and notes here as well
        copied.sources = list(self.sources)
        return copied

    def load_config(self, config_path: str) -> ConfigResult | None:
        found = (folder / f"{config_path.removesuffix('.yaml')}.yaml" for folder in self._folders)
        if file := next(filter(Path.is_file, found), None):
            self._note(config_path, file)
        key = (config_path, *(source.path for source in self.sources))
        if key not in self._contents:
            self._contents[key] = super().load_config(config_path)
        # A copy, since Hydra makes the config out of what it gets.
        return copy.deepcopy(self._contents[key])

    def _note(self, config_path: str, file: Path) -> None:
        """Note a file that is about to be read: the last one in its place in the config."""
        place = config_path.rpartition("/")[0].replace("/", ".")
        if self._read.get(place) == file:
            return
        content = read_mapping(file)  # Hydra's own refusals name no file
        self._read[place] = file
        if not place:
            self._own |= content.keys()

    def file_of(self, key: str) -> Path | None:
        """Return the file in whose place in the config a key is, if no override has given it."""
        group = key.rpartition(".")[0]
        if key in self.given or (not group and key not in self._own):
            return None
        return self._read.get(group)
