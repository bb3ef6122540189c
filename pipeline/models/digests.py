"""What a checkpoint is, by content: digests of its weights, config and tokenizer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.session import shared
from pipeline.data.package_files import sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipeline.models.checkpoint import Checkpoint


def model_digests(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint's name, hub commit, and the digests of weights, config and tokenizer.

    ``weights`` is None for a model of the hub that is not in the cache yet, and for a new one,
    which also has ``new``: its weights are drawn by the run's seed.
    """
    folder = None if checkpoint.is_new else _folder(checkpoint)
    has_weights = folder is not None and any(folder.glob("*.safetensors"))
    config = {k: v for k, v in checkpoint.config.to_dict().items() if not k.startswith("_")}
    # transformers writes its version into a config; packages are recorded separately.
    config.pop("transformers_version", None)
    return {
        "name": checkpoint.name,
        "revision": checkpoint.revision,
        "commit": folder.name if folder and not Path(checkpoint.location).is_dir() else None,
        "weights": weights_digest(folder) if folder and has_weights else None,
        "config": _of_text(json.dumps(config, sort_keys=True, default=str)),
        "tokenizer": tokenizer_digest(checkpoint.tokenizer),
        **({"new": True} if checkpoint.is_new else {}),
    }


def weights_digest(folder: Path) -> str:
    """Digest the files of weights that a model's folder has."""
    return _of_files(tuple(map(stamp, sorted(folder.glob("*.safetensors")))))


def _folder(checkpoint: Checkpoint) -> Path | None:
    """Return where the files are: the folder itself, or the hub's cache, named by its commit."""
    if Path(checkpoint.location).is_dir():
        return Path(checkpoint.location)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(checkpoint.location, "config.json", revision=checkpoint.revision)
    return Path(found).parent if isinstance(found, str) else None


def stamp(path: Path) -> tuple[Path, int, int]:
    """Return what changes with a file: it is read again only then."""
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


@shared(maxsize=4)  # a file is read once for all trials of a sweep, unless it changes
def _of_files(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    return _of_text("\n".join(f"{path.name} {sha256(path)}" for path, *_ in stamps))


def _of_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@shared(maxsize=2)
def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest everything that decides how a text becomes tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.loads(backend.to_str())
        rules = {k: v for k, v in rules.items() if k not in ("truncation", "padding")}  # of a call
    else:
        rules = tokenizer.get_vocab()
    parts = [rules, tokenizer.special_tokens_map, tokenizer.model_max_length]
    return _of_text(json.dumps([*parts, tokenizer.chat_template], sort_keys=True, default=str))
