"""A tokenizer by the name of a model in conf/model: the record has the checkpoint that it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError
from pipeline.config.menu import choices
from pipeline.config.own_files import read_mapping

if TYPE_CHECKING:
    from omegaconf import DictConfig

KEY = "model.tokenizer"


def tokenizer_of(given: Any) -> Any:
    """Return the checkpoint of a model in conf/model for its name; anything else as it is.

    Raises:
        ConfigError: for a model without a checkpoint.
    """
    if not isinstance(given, str) or Path(given).exists():
        return given
    file = choices("models").get(given)
    if file is None:
        return given
    checkpoint = read_mapping(file).get("checkpoint")
    if checkpoint in (None, "???"):
        raise ConfigError(
            f"{KEY}={given}: {file} names no checkpoint; expected a model of conf/model that does, "
            "a hub name or a folder."
        )
    return checkpoint


def name_tokenizer(config: DictConfig) -> None:
    """Put the checkpoint into a composed config, so that what is logged needs no conf/model."""
    from omegaconf import DictConfig, OmegaConf, flag_override

    model = config.get("model")
    if not isinstance(model, DictConfig):
        return
    plain: Any = OmegaConf.to_container(model, resolve=False)
    given = plain.get("tokenizer")
    found = tokenizer_of(given)
    if found is not given:
        with flag_override(model, ["struct", "readonly"], [False, False]):
            model["tokenizer"] = found
