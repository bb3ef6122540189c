"""Where a model or a tokenizer is read from, and what is wrong with its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pipeline.common.errors import AGAIN, ModelError, listing
from pipeline.config.types import EmbeddedFile
from pipeline.data.package_files import locate
from pipeline.models.faults import is_of_machine, said, unknown_kind

# A single file, or the index of a checkpoint in several files.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "tokenizer_config.json")
_ADAPTERS = ("adapter_config.json", "adapter_model.*")
_INDEX = "model.safetensors.index.json"
_UNBOUNDED = ("time_step_limit",)  # of Mamba 2: from 0 to infinity
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_OBJECTS = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"),
    *("special_tokens_map.json", "added_tokens.json", _INDEX),
)
_CONVERT = (
    "Convert a model you trust once, with transformers: model = AutoModel.from_pretrained(source); "
    "model.save_pretrained(folder), and save its tokenizer the same way."
)
_SAVE_AGAIN = (
    "Expected what was saved with the model: copy it again from where it comes from, or save model "
    "and tokenizer again with save_pretrained(folder)."
)


@dataclass(frozen=True)
class Source:
    """A folder or a hub name, and the key and name by which the user gave it.

    Whatever reads its files does so inside `reading`, so that a fault is said with the file.
    """

    key: str  # empty for a folder that no key names
    name: str
    location: str  # a folder, or a name of the hub
    remedy: str = _SAVE_AGAIN  # for files that are not what was saved

    @classmethod
    def of(cls, key: str, given: str | EmbeddedFile) -> Source:
        """Find what a key of the config names.

        Raises:
            ModelError: for a folder that is not there.
        """
        if isinstance(given, EmbeddedFile):
            return cls(key, given.distribution, str(locate(given).parent))
        if _is_no_folder(given):
            raise ModelError(
                f"{key}={given}: there is no such folder, and no model of the Hugging Face hub "
                "has such a name."
            )
        return cls(key, given, given)

    @property
    def place(self) -> str:
        """The key and its value, as the user wrote them."""
        return f"{self.key}={self.name}" if self.key else self.name

    @property
    def folder(self) -> Path | None:
        """The local folder; None for a model of the hub."""
        return Path(self.location) if Path(self.location).is_dir() else None

    def at(self, *globs: str) -> str:
        """Return the place with the names of the files that are there."""
        files = listing(names(self.folder, globs), most=4) if self.folder else ""
        return f"{self.place}: {files}" if files else self.place

    def fault(self, problem: str, *globs: str) -> ModelError:
        """Return the refusal of a file, or of several together, that are not what was saved."""
        return ModelError(
            f"{self.at(*globs)}: {problem.rstrip('.')}{'' if problem.endswith('?') else '.'} "
            f"{self.remedy}"
        )

    @contextmanager
    def reading(self, *globs: str, why: Callable[[Exception], str] = said) -> Iterator[None]:
        """Refuse what a library cannot read, with the files; around calls of libraries only.

        They check little: broken files make them fail anywhere, by errors of any type.

        Args:
            globs: the files.
            why: what is said of an error.

        Raises:
            ModelError: saying what they say.
        """
        try:
            yield
        except Exception as error:
            if is_of_machine(error):
                raise
            raise self.unreadable(error, why(error), globs) from error

    def unreadable(self, error: Exception, reason: str, globs: Sequence[str]) -> ModelError:
        """Return the refusal of what a library cannot read, by the error that it raised."""
        if "trust_remote_code" in str(error):
            remedy = (
                f"If you trust it, repeat its name: model.trust_remote_code={self.name}."
                if self.key == "model.checkpoint"
                else "Expected one without."
            )
            return ModelError(
                f"{self.place}: it needs code of its own, which does not run unasked: it could do "
                f"anything. {remedy}"
            )
        if "use_safetensors" in str(error):
            return ModelError(
                f"{self.place}: there are no safetensors, and other weights are not loaded: they "
                f"are pickled and can run code when they are read. {_CONVERT}"
            )
        if isinstance(error, ImportError):
            return ModelError(
                f"{self.place}: it needs a Python package that is not installed here, or another "
                f"version of it: {reason}. Install it, and {AGAIN}."
            )
        if self.folder is None:
            return ModelError(
                f"{self.place}: cannot be loaded: {reason}. Expected a local folder with a model, "
                "a name of the Hugging Face hub, or model=minilm."
            )
        return self.fault(reason, *globs)

    def read(self, file: str) -> dict[str, Any]:
        """Return the object in a JSON file of the folder.

        Raises:
            ModelError: for a file that is no JSON, or holds no object.
        """
        assert self.folder is not None
        constants: list[float] = []

        def constant(name: str) -> float:
            constants.append(float(name))
            return constants[-1]

        try:
            content = (self.folder / file).read_bytes()
            found = json.loads(content, parse_constant=constant)
        except (ValueError, RecursionError, OSError) as error:
            raise self.fault(f"it cannot be read as JSON: {said(error)}", file) from error
        if (encoding := json.detect_encoding(content)) != "utf-8":
            problem = f"its encoding is {encoding}; expected utf-8 without a byte order mark"
            raise self.fault(problem, file)
        if not isinstance(found, dict):
            raise self.fault(f"it holds a JSON {type(found).__name__}, not an object", file)
        if constants or file == "config.json":  # which may hold 1e999
            for place in _not_finite(found):
                raise self.fault(f"{place} is no finite number", file)
        return found

    def check_files(self) -> None:
        """Refuse a folder with a JSON file that cannot be read: libraries ignore some of them.

        Raises:
            ModelError: naming it.
        """
        for file in names(self.folder, _OBJECTS) if self.folder else ():
            self.read(file)

    def check_model(self) -> dict[str, Any]:
        """Refuse a folder that holds no whole model, of an architecture that transformers has.

        Returns:
            what its config.json holds; nothing of a model of the hub.

        Raises:
            ModelError: naming what the folder holds.
        """
        path = self.folder
        if path is None:
            return {}
        if adapter := names(path, _ADAPTERS):
            raise ModelError(
                f"{self.place}: the folder holds a PEFT adapter ({listing(adapter)}), which would "
                "change the weights, or be left out; expected a whole model. Merge it once "
                "into its base model, with PEFT's merge_and_unload() and save_pretrained(folder)."
            )
        if not (path / "config.json").is_file():
            raise ModelError(
                f"{self.place}: the folder is not a model: expected config.json, weights and a "
                f"tokenizer, found {_contents(path)}."
            )
        self.check_files()
        given = self.read("config.json")
        if "model_type" not in given:  # transformers would guess it from the folder's name
            raise self.fault("it has no model_type", "config.json")
        kind = given["model_type"]
        if "auto_map" not in given and (unknown := unknown_kind(kind)):  # own code has other names
            raise self.fault(f"model_type={kind!r:.80}: {unknown}", "config.json")
        return given

    def check_tokenizer(self) -> None:
        """Refuse a folder without a tokenizer: transformers would build an empty one.

        Raises:
            ModelError: naming what the folder holds.
        """
        if self.folder and not names(self.folder, TOKENIZERS):
            raise ModelError(
                f"{self.place}: there is no tokenizer: expected {' or '.join(TOKENIZERS)}, found "
                f"{_contents(self.folder)}."
            )

    def check_weights(self) -> None:
        """Refuse a folder without weights early, before a run is recorded.

        Raises:
            ModelError: naming what the folder holds.
        """
        if self.folder is None:
            return
        if names(self.folder, WEIGHTS):
            self._check_index(self.folder)
            return
        if names(self.folder, _PICKLED):
            raise ModelError(
                f"{self.place}: the folder holds pickled weights, which can run code when they are "
                f"read: found {_contents(self.folder)}, expected safetensors. {_CONVERT}"
            )
        raise ModelError(
            f"{self.place}: the folder has no weights: expected {' or '.join(WEIGHTS)}, found "
            f"{_contents(self.folder)}."
        )

    def _check_index(self, folder: Path) -> None:
        """Refuse an index of weights in several files that names what is no file of the folder."""
        present = names(folder, ("*",))
        if _INDEX not in present or "model.safetensors" in present:  # which alone is read
            return
        index = self.read(_INDEX)
        for key in ("metadata", "weight_map"):
            if not isinstance(index.get(key), dict):
                raise self.fault(f"it has no object {key}", _INDEX)
        if not index["weight_map"]:
            raise self.fault("weight_map names no tensors", _INDEX)
        for tensor, file in index["weight_map"].items():
            if file not in present:
                raise self.fault(f"{tensor}: {file!r:.80} is no file of the folder", _INDEX)


def names(folder: Path, globs: Sequence[str]) -> list[str]:
    """Return the names of a folder's files, in the order of their patterns."""
    files = (path for glob in globs for path in sorted(folder.glob(glob)) if path.is_file())
    return list(dict.fromkeys(path.name for path in files))


def _contents(path: Path) -> str:
    every = sorted(f"{p.name}/" if p.is_dir() else p.name for p in path.iterdir())
    return ", ".join(every[:6]) or "nothing"


def _not_finite(value: object, place: str = "") -> Iterator[str]:
    """Yield the keys of JSON with the numbers that are NaN or infinite."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in _UNBOUNDED:
                yield from _not_finite(part, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _not_finite(part, f"{place}[{number}]")
    elif isinstance(value, float) and not isfinite(value):
        yield f"{place}={value}"


def _is_no_folder(location: str) -> bool:
    """Whether this can only be a folder, as no model of the hub may be called so, and is none."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(location)
    except HFValidationError:
        return not Path(location).is_dir()
    return Path(location).is_file()
