"""Where things are recorded: composed just to learn it, by what trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.tracking import Store


def composed(overrides: Sequence[str]) -> DictConfig:
    """Compose a config, ``hydra`` node included."""
    from pipeline.config.compose import compose, hydra_app

    with hydra_app("train") as hydra:
        return compose(hydra, overrides)


def store_of(config: DictConfig) -> Store:
    """Return the store of a composed config."""
    from pipeline.config.compose import without_hydra
    from pipeline.config.experiment import validate
    from pipeline.tracking import open_store

    return open_store(validate(without_hydra(config)).tracking)


def store_at(overrides: Sequence[str]) -> Store:
    """Return the store that overrides lead to."""
    return store_of(composed(overrides))
