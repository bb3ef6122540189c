"""Hydra's config files, read once a worker instead of once a trial."""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.config_source import ConfigResult


class _ReadOnce(ConfigRepository):
    """Config files as they were when a worker first read them, so all its trials see the same."""

    def __init__(self, files: ConfigRepository) -> None:
        self.sources = list(files.sources)
        self._read: dict[str, ConfigResult | None] = {}

    def __deepcopy__(self, _: Any) -> _ReadOnce:
        return self  # Hydra composes with a copy, and what that reads is to stay here

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self._read:
            self._read[config_path] = super().load_config(config_path)
        # A copy, since Hydra makes the trial's config out of what it gets.
        return copy.deepcopy(self._read[config_path])


def reading_once(loader: ConfigLoader) -> ConfigLoader:
    """Return the loader of a worker: a quarter of a trial's overhead was to read files again."""
    if isinstance(loader, ConfigLoaderImpl):
        loader = copy.copy(loader)
        loader.repository = _ReadOnce(loader.repository)
    return loader
