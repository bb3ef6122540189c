"""Checkpoints: a hub name, a local folder, a file of a package or a new model, opened alike."""

import copy
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError, ModelError, TunewrightError, did_you_mean, listing
from pipeline.common.session import shared
from pipeline.common.text import words
from pipeline.common.timing import booked
from pipeline.config.model import ModelConfig
from pipeline.config.types import EmbeddedFile
from pipeline.data.package_files import locate
from pipeline.models.digests import stamp
from pipeline.models.families import HEADS, can, families_with
from pipeline.models.loaded import check_floats, check_loaded

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


# A single file, or the index of a checkpoint in several files.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "tokenizer_config.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CONVERT = (
    "Convert a model you trust once, with transformers: model = AutoModel.from_pretrained(source); "
    "model.save_pretrained(folder), and save its tokenizer the same way."
)


_NO_FOLDER = "there is no such folder, and no model of the Hugging Face hub has such a name."

# Their first position comes after the padding id, so they have fewer than configured.
_OFFSET_POSITIONS = words("roberta roberta-prelayernorm xlm-roberta xlm-roberta-xl camembert")
_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found; its weights are not loaded or, for a new model, drawn yet."""

    name: str  # what the user wrote; of a new model, its architecture
    location: str  # what transformers loads: a folder or a hub name; of a new model, its tokenizer
    revision: str | None
    is_trusted: bool  # whether its own code may run
    config: "PretrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    is_new: bool = False  # built from a config, with random weights

    def load(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        """Load the weights in float32 into ``auto_class``; a missing head starts random.

        They are read once per process, see `pipeline.models.weights`; a new model's are drawn from
        torch's generator each time, and 4-bit weights are read each time.

        Raises:
            ModelError: if this architecture has no such head.
            ConfigError: for a new model in 4 bits.
        """
        from pipeline.models.weights import weights

        is_quantized = "quantization_config" in kwargs
        if self.is_new and is_quantized:
            raise ConfigError(
                f"adapter.name=qlora: model.from_config makes a new {self.name}, whose weights are "
                "random and cannot be in 4 bits; expected a model.checkpoint, or another adapter."
            )
        if self.is_new:
            return self._draw(auto_class, **kwargs)
        if is_quantized:
            return self._read(auto_class, **kwargs)
        key = self._key(auto_class, kwargs)
        return weights().load(key, lambda: self._read(auto_class, **kwargs))

    def check_loads(self, auto_class: Any, **kwargs: Any) -> None:
        """Read the weights once per process, for the errors; `load` finds them read.

        Raises:
            ModelError: for weights that are not those of the model.
        """
        import torch

        from pipeline.models.weights import weights

        if not self.is_new and not weights().has(self._key(auto_class, kwargs)):
            with torch.random.fork_rng(devices=[]):  # a new head is drawn
                self.load(auto_class, **kwargs)

    def _key(self, auto_class: Any, kwargs: Mapping[str, Any]) -> object:
        folder = Path(self.location)  # or a name of the hub, whose files do not change
        files = sorted(stamp(p) for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
        return self.location, self.revision, self.is_trusted, auto_class, dict(kwargs), files

    def outline(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        """Build the model without any weights, to inspect its modules.

        Raises:
            ModelError: if this architecture has no such head.
        """
        import torch

        with _readable(self._place), torch.device("meta"):  # no memory, and nothing is drawn
            return self._draw(auto_class, **kwargs)

    def count_stored(self) -> int | None:
        """Count the parameters in its local file of weights; None if there is none.

        Raises:
            ModelError: if the file cannot be read.
        """
        from safetensors import safe_open

        file = Path(self.location, "model.safetensors")
        if self.is_new or not file.is_file():
            return None
        with _readable(self._place), safe_open(file, framework="numpy") as stored:
            shapes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118
        return sum(map(math.prod, shapes))

    def _draw(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        import torch

        config = copy.deepcopy(self.config)
        # The number of labels first: setting it renames them.
        for key in sorted(kwargs, key=lambda key: key != "num_labels"):
            if hasattr(config, key):
                setattr(config, key, kwargs.pop(key))
        try:
            model: PreTrainedModel = auto_class.from_config(
                config, dtype=torch.float32, trust_remote_code=self.is_trusted, **kwargs
            )
        except ValueError as error:
            raise ModelError(f"{self._place}: {' '.join(str(error).split())[:300]}") from error
        return self._with_padding(model.eval())

    def _with_padding(self, model: "PreTrainedModel") -> "PreTrainedModel":
        if model.config.pad_token_id is None:
            model.config.pad_token_id = self.tokenizer.pad_token_id
        return model

    def _read(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()
        # Else transformers asks a public service to convert them, and loads from its pull request.
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        with _readable(self._place):
            if not hasattr(self.config, "quantization_config"):
                check_floats(Path(self.location), self._place)
            model, found = auto_class.from_pretrained(
                self.location,
                revision=self.revision or "main",
                trust_remote_code=self.is_trusted,
                use_safetensors=True,
                weights_only=True,  # an index of safetensors can name other files
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # a head for other labels is replaced by a new one
                output_loading_info=True,
                **kwargs,
            )
        writes = auto_class.__name__ in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
        check_loaded(model, found, self._place, writes=writes)
        return self._with_padding(model)

    @property
    def _place(self) -> str:
        return "model.from_config" if self.is_new else f"model.checkpoint={self.name}"

    def check_head(self, auto_class_name: str, task: str) -> None:
        """Refuse a model whose architecture lacks the head of a task, before weights are read.

        Raises:
            ModelError: naming the models of the menu that can.
        """
        if can(self.config, auto_class_name):
            return
        raise ModelError(
            f"task={task}: {self._place} is a {self.config.model_type}, which has no "
            f"{HEADS.get(auto_class_name, auto_class_name)}. Models that can: "
            f"{listing(families_with(auto_class_name), most=30)}."
        )

    def check_length(self, max_length: int) -> None:
        """Refuse texts longer than the model has positions; one without positions reads any.

        Raises:
            ConfigError: naming the greatest length allowed.
        """
        positions = getattr(self.config, "max_position_embeddings", None)
        if not positions or positions < 0:
            return
        if self.config.model_type in _OFFSET_POSITIONS:
            positions -= (self.config.pad_token_id or 0) + 1
        longest = min(positions, self.tokenizer.model_max_length or positions)
        if max_length > longest:
            raise ConfigError(
                f"training.max_length={max_length}: {self.name} reads at most {longest} tokens."
            )


@booked("model")
@shared(maxsize=2)
def find_checkpoint(config: ModelConfig) -> Checkpoint:
    """Find the checkpoint that runs start from, by `read_checkpoint`; trials share it."""
    return read_checkpoint(config)


def read_checkpoint(config: ModelConfig) -> Checkpoint:
    """Load a checkpoint's config and tokenizer, but not its weights.

    A decoder without a padding token pads with its end-of-text token.

    Raises:
        ModelError: for an unknown folder or hub name, a folder without a model, a model that is
            pickled or needs code of its own that is not trusted, or a tokenizer with more tokens
            than the model.
        ConfigError: for a config that no model can be built from.
    """
    if config.from_config is not None:
        return _new(config.from_config, config.tokenizer)
    from transformers import AutoConfig

    assert config.checkpoint is not None  # which the schema ensures
    name, location = _place_of(config.checkpoint)
    if isinstance(config.checkpoint, str):
        _check_folder(location)
    is_trusted = config.trust_remote_code == config.checkpoint
    options = {"revision": config.revision or "main", "trust_remote_code": is_trusted}
    with _readable(f"model.checkpoint={name}"):
        model_config = AutoConfig.from_pretrained(location, **options)
    if config.tokenizer is None or config.tokenizer == config.checkpoint:
        tokenizer = _tokenizer(f"model.checkpoint={name}", location, **options)
    else:
        tokenizer = _other_tokenizer(config.tokenizer)
        vocabulary = getattr(model_config.get_text_config(), "vocab_size", None)
        if vocabulary and len(tokenizer) > vocabulary:
            raise ModelError(
                f"model.tokenizer={_place_of(config.tokenizer)[0]}: it has {len(tokenizer)} "
                f"tokens, but {name} has embeddings of {vocabulary}; expected a tokenizer that "
                "the model was trained with."
            )
    _check_padding(name, model_config, tokenizer)
    _check_weights(Path(location))
    return Checkpoint(name, location, config.revision, is_trusted, model_config, tokenizer)


def _check_padding(
    name: str, config: "PretrainedConfig", tokenizer: "PreTrainedTokenizerBase"
) -> None:
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(vocabulary, int):
        return
    for file, pad in (
        ("config.json", getattr(config, "pad_token_id", None)),
        ("the tokenizer", tokenizer.pad_token_id),
    ):
        # Some configs have -1 for none.
        if isinstance(pad, int) and pad >= vocabulary:
            raise ModelError(
                f"model.checkpoint={name}: pad_token_id={pad} of {file} is outside the vocabulary; "
                f"expected at most {vocabulary - 1} (vocab_size={vocabulary} of config.json)."
            )


def _place_of(source: str | EmbeddedFile) -> tuple[str, str]:
    """Return the user's name of a model or tokenizer, and its folder or hub name."""
    if isinstance(source, EmbeddedFile):
        return source.distribution, str(locate(source).parent)
    return source, source


def _other_tokenizer(source: str | EmbeddedFile) -> "PreTrainedTokenizerBase":
    name, location = _place_of(source)
    if _is_no_folder(location):
        raise ModelError(f"model.tokenizer={name}: {_NO_FOLDER}")
    return _tokenizer(f"model.tokenizer={name}", location)


def _tokenizer(place: str, location: str, **options: Any) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    if Path(location).is_dir() and not _any(Path(location), _TOKENIZERS):
        # transformers would build an empty one without a vocabulary.
        raise ModelError(
            f"{place}: there is no tokenizer: expected {' or '.join(_TOKENIZERS)}, found "
            f"{_contents(Path(location))}."
        )
    with _readable(place):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(location, **options)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"{place}: its tokenizer has neither a padding nor an end token.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _new(given: Mapping[str, Any], source: str | EmbeddedFile | None) -> Checkpoint:
    """Build the config of a new model, and check that a model can be built from it."""
    import torch
    from transformers import AutoConfig, AutoModel

    assert source is not None  # which the schema ensures
    kind, valid = _check_keys(given)
    tokenizer = _other_tokenizer(source)
    # A copy: transformers writes into nested values, and the config is a cache key.
    values = {**_token_values(tokenizer, valid), **copy.deepcopy(dict(given))}
    values.pop("model_type")
    try:
        config = AutoConfig.for_model(kind, **values)
        if config.is_encoder_decoder and "decoder_start_token_id" not in given:
            config.decoder_start_token_id = _first(config.pad_token_id, tokenizer.pad_token_id)
        with torch.device("meta"):  # no memory, and nothing is drawn
            AutoModel.from_config(config)
    # transformers' checks of a config and of its modules raise errors of any type.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"model.from_config: cannot build a {kind} from it: {reason[:300]}"
        ) from error
    vocabulary = getattr(config, "vocab_size", len(tokenizer))
    if vocabulary < len(tokenizer):
        raise ConfigError(
            f"model.from_config.vocab_size={vocabulary}: expected at least the {len(tokenizer)} "
            "tokens of model.tokenizer, or leave vocab_size out to take their number."
        )
    return Checkpoint(kind, _place_of(source)[1], None, False, config, tokenizer, is_new=True)


def _check_keys(given: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Return an architecture and its keys; refuse others, which transformers would ignore."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = given.get("model_type")
    if kind is None:
        raise ConfigError(
            "model.from_config: expected an architecture of transformers: "
            "model.from_config.model_type=bert"
        )
    kinds = list(CONFIG_MAPPING.keys())
    if kind not in kinds:
        raise ConfigError(
            f"model.from_config.model_type={kind}: transformers has no such architecture."
            f"{did_you_mean(str(kind), kinds)}"
        )
    config = CONFIG_MAPPING[kind]()
    own = {key for key in vars(config) if not key.startswith("_")} - {"transformers_version"}
    valid = own | set(config.attribute_map) | {"model_type", *_TOKEN_IDS}
    for key in given:
        if key not in valid:
            raise ConfigError(
                f"model.from_config.{key}: a {kind} has no such key.{did_you_mean(key, valid)} "
                f"Valid: {listing(sorted(valid), most=60)}."
            )
    return str(kind), valid


def _token_values(tokenizer: "PreTrainedTokenizerBase", valid: set[str]) -> dict[str, Any]:
    """Return what a config says about its tokenizer; the classes' defaults describe another one."""
    end = _first(tokenizer.eos_token_id, tokenizer.sep_token_id)
    pads = tokenizer.pad_token_id != end  # else the end token's vector would be zero, and stay zero
    values = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id if pads else None,
        "bos_token_id": _first(tokenizer.bos_token_id, tokenizer.cls_token_id),
        "eos_token_id": end,
        "forced_eos_token_id": end,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    return {key: value for key, value in values.items() if key in valid}


def _first(*ids: int | None) -> int | None:
    return next((i for i in ids if i is not None), None)


def _check_folder(location: str) -> None:
    path = Path(location)
    if _is_no_folder(location):
        raise ModelError(f"model.checkpoint={location}: {_NO_FOLDER}")
    if (path / "adapter_config.json").is_file():
        raise ModelError(
            f"model.checkpoint={path}: the folder holds a PEFT adapter (adapter_config.json), "
            "which would change the weights unasked; expected a whole model. Merge it once into "
            "its base model, with PEFT's merge_and_unload() and save_pretrained(folder)."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(
            f"model.checkpoint={path}: the folder is not a model: expected config.json, "
            f"weights and a tokenizer, found {_contents(path)}."
        )


def _is_no_folder(location: str) -> bool:
    """Whether this can only be a folder, as no model of the hub may be called so, and is none."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(location)
    except HFValidationError:
        return not Path(location).is_dir()
    return Path(location).is_file()


def _check_weights(path: Path) -> None:
    """Refuse a folder without weights early, before a run is recorded."""
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


def _contents(path: Path) -> str:
    return ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"


@contextmanager
def _readable(place: str) -> Iterator[None]:
    from torch import OutOfMemoryError

    try:
        yield
    except (TunewrightError, MemoryError, OutOfMemoryError):
        raise
    # transformers' checks of configs, and what a broken one lets fail, raise errors of any type.
    except Exception as error:
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason:
            key, _, name = place.partition("=")
            remedy = (
                f"If you trust it, repeat its name: model.trust_remote_code={name}."
                if key == "model.checkpoint"
                else "Expected a tokenizer without."
            )
            raise ModelError(
                f"{place}: it needs code of its own, which does not run unasked: it could do "
                f"anything. {remedy}"
            ) from error
        if "use_safetensors" in reason:
            raise ModelError(
                f"{place}: there are no safetensors, and other weights are not loaded: they are "
                f"pickled and can run code when they are read. {_CONVERT}"
            ) from error
        raise ModelError(
            f"{place}: cannot be loaded; expected a local folder with a model, a name of the "
            f"Hugging Face hub, or model=minilm. {type(error).__name__}: {reason[:300]}"
        ) from error
