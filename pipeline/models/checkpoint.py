"""Checkpoints: a hub name, a local folder or an embedded file, opened one way."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from pipeline.config import EmbeddedFile, ModelConfig
from pipeline.embedded import locate
from pipeline.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


# Whole, or the index of a checkpoint in several files.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CONVERT = (
    "Convert a model you trust once, with transformers: model = AutoModel.from_pretrained(source); "
    "model.save_pretrained(folder), and save its tokenizer likewise."
)


@dataclass(frozen=True)
class Checkpoint:
    """A pre-trained model that was found; its weights are not loaded yet."""

    name: str  # what the user wrote
    location: str  # what transformers loads: a folder or a hub name
    revision: str | None
    is_trusted: bool  # whether code that it brings may run
    config: "PretrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"

    def load(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        """Load the weights in float32 into ``auto_class``; a head that is missing starts random.

        They are read once in a process, see `pipeline.models.weights`.

        Raises:
            ModelError: where this architecture has no such head.
        """
        from pipeline.models.weights import WEIGHTS

        files = _stamps(Path(self.location))
        key = (self.location, self.revision, self.is_trusted, auto_class, kwargs, files)
        return WEIGHTS.load(key, lambda: self._read(auto_class, **kwargs))

    def _read(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()
        # Else transformers asks a public service to convert, and loads from its pull request.
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        with _readable(self.name):
            model: PreTrainedModel = auto_class.from_pretrained(
                self.location,
                revision=self.revision or "main",
                trust_remote_code=self.is_trusted,
                use_safetensors=True,
                weights_only=True,  # an index of safetensors can name other files
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # a head for other labels is made anew
                **kwargs,
            )
        if model.config.pad_token_id is None:
            model.config.pad_token_id = self.tokenizer.pad_token_id
        return model

    def check_length(self, max_length: int) -> None:
        """Refuse texts longer than the model has positions.

        Raises:
            ConfigError: naming the longest length that is allowed.
        """
        limits = (
            getattr(self.config, "max_position_embeddings", None),
            self.tokenizer.model_max_length,
        )
        longest = min(limit for limit in limits if limit)
        if max_length > longest:
            raise ConfigError(
                f"training.max_length={max_length}: {self.name} reads at most {longest} tokens."
            )


@lru_cache(maxsize=2)  # the trials of a sweep share the tokenizer
def find_checkpoint(config: ModelConfig) -> Checkpoint:
    """Find a checkpoint and load its config and tokenizer, but not its weights.

    A decoder without a padding token pads with its end-of-text token.

    Raises:
        ModelError: for a name that neither a folder nor the hub (or its cache) knows, or a folder
            that holds no model, or one that is pickled or needs code of its own that is not
            trusted.
    """
    from transformers import AutoConfig, AutoTokenizer

    if isinstance(config.checkpoint, EmbeddedFile):
        name = config.checkpoint.distribution
        location = str(locate(config.checkpoint).parent)
    else:
        name = location = config.checkpoint
        _check_folder(Path(location))
    is_trusted = config.trust_remote_code == config.checkpoint
    options = {"revision": config.revision or "main", "trust_remote_code": is_trusted}
    with _readable(name):
        model_config = AutoConfig.from_pretrained(location, **options)
        tokenizer = AutoTokenizer.from_pretrained(location, **options)
    _check_weights(Path(location))
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"model.checkpoint={name}: its tokenizer has neither padding nor end.")
        tokenizer.pad_token = tokenizer.eos_token
    return Checkpoint(name, location, config.revision, is_trusted, model_config, tokenizer)


def _check_folder(path: Path) -> None:
    looks_local = str(path).startswith((".", "/", "~")) or len(path.parts) > 2
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"model.checkpoint={path}: the folder is no model: expected config.json, weights "
                f"and a tokenizer, found {_contents(path)}."
            )
    elif looks_local or path.is_file():
        raise ModelError(f"model.checkpoint={path}: there is no such folder.")


def _check_weights(path: Path) -> None:
    """Refuse a folder without weights now, not when a run that is already recorded loads them."""
    if not path.is_dir() or _any(path, _WEIGHTS):
        return
    if _any(path, _PICKLED):
        raise ModelError(
            f"model.checkpoint={path}: the folder holds pickled weights, which can run code when "
            f"they are read: found {_contents(path)}, expected safetensors. {_CONVERT}"
        )
    raise ModelError(
        f"model.checkpoint={path}: the folder has no weights: expected {' or '.join(_WEIGHTS)}, "
        f"found {_contents(path)}."
    )


def _any(path: Path, globs: Sequence[str]) -> bool:
    return any(found for glob in globs for found in path.glob(glob))


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Return what changes when a folder's files do; nothing for a name of the hub."""
    if not path.is_dir():
        return []
    stats = {p.name: p.stat() for p in sorted(path.iterdir()) if p.is_file()}
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()]


def _contents(path: Path) -> str:
    return ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"


@contextmanager
def _readable(name: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        ImportError,
        SafetensorError,
        UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason:
            raise ModelError(
                f"model.checkpoint={name}: the model needs code of its own, which does not run "
                "unasked: it could do anything. If you trust it, name it once more: "
                f"model.trust_remote_code={name}."
            ) from error
        if "use_safetensors" in reason:
            raise ModelError(
                f"model.checkpoint={name}: there are no safetensors, and other weights are not "
                f"loaded: they are pickled and can run code when they are read. {_CONVERT}"
            ) from error
        raise ModelError(
            f"model.checkpoint={name}: cannot be loaded; expected a local folder with a model, a "
            f"name of the Hugging Face hub, or model=minilm. {type(error).__name__}: {reason[:300]}"
        ) from error
