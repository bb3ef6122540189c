"""What several verbs share: their options, where the record is, and what to say after a stop."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.config.schema import TrackingConfig

    Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

FORMATS = ("table", "csv", "json", "md")

# Help texts.
DRY_RUN = "say and check what would be run, and run and write nothing"
RUN_ID = "its MLflow id"
STORE = "tracking.dir=… or tracking.uri=…"
STUDY = "a study's name, or how it begins"
STUDY_STORE = "tracking.dir=…, hydra.sweeper.storage=…"


class Stopped(KeyboardInterrupt):
    """A command was stopped at work; the text says how it goes on, or nothing."""


@contextmanager
def goes_on(how: str) -> Iterator[None]:
    """Say how a command that is stopped in here goes on; nothing where it does not."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(how) from stop


def add_allow(verb: argparse.ArgumentParser) -> None:
    """Give a verb ``--allow``."""
    verb.add_argument(
        "--allow",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder that the record may read files of, beside the working folder",
    )


def add_format(verb: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    """Give a verb ``--format``."""
    verb.add_argument("--format", choices=formats, default="table", help="default: table")


def names_and_overrides(
    words: Sequence[str], keys: str | tuple[str, ...] = ""
) -> tuple[list[str], list[str]]:
    """Tell names from overrides.

    Args:
        words: of the command line, in any order.
        keys: how an override begins, where a name may have a ``=`` too.

    Returns:
        The names and the overrides, each in their order.
    """
    overrides = [word for word in words if "=" in word and word.startswith(keys)]
    return [word for word in words if word not in overrides], overrides


def tracking(overrides: Sequence[str]) -> TrackingConfig:
    """Compose just to learn where the record is."""
    return tracking_of(composed(overrides))


def composed(overrides: Sequence[str]) -> DictConfig:
    """Compose the config of a verb that trains nothing, ``hydra`` node included."""
    from pipeline.config.compose import compose, hydra_app

    with hydra_app("train") as hydra:
        return compose(hydra, overrides)


def tracking_of(config: DictConfig) -> TrackingConfig:
    """Return where the record is, of a composed config."""
    from pipeline.config.compose import without_hydra
    from pipeline.config.schema import validate

    return validate(without_hydra(config)).tracking
