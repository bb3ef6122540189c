"""Checkpoints: a hub name, a local folder, a file of a package or a new model, opened alike."""

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError, ModelError, listing
from pipeline.common.session import shared
from pipeline.common.text import words
from pipeline.common.timing import booked
from pipeline.config.model import ModelConfig
from pipeline.models.consistent import (
    OUTPUTS,
    check_config,
    check_embeddings,
    check_generation,
    check_tokenizer,
    odd_tokens,
)
from pipeline.models.digests import stamp
from pipeline.models.families import can, families_with, head_name
from pipeline.models.faults import (
    compute,
    is_of_machine,
    said,
    unbuildable,
    uncomputable,
    without_log,
)
from pipeline.models.loaded import (
    check_floats,
    check_loaded,
    check_once,
    reorder_head,
    stored_tensors,
)
from pipeline.models.new_model import new_config
from pipeline.models.source import TOKENIZERS, WEIGHTS, Source

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Their first position comes after the padding id, so they have fewer than configured.
_OFFSET_POSITIONS = words("roberta roberta-prelayernorm xlm-roberta xlm-roberta-xl camembert")


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

        self.check_head(auto_class.__name__)
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
        """Compute without weights, and read these once per process; `load` finds them read.

        Raises:
            ModelError: for a config or weights that are not those of a model.
        """
        import torch

        from pipeline.models.weights import weights

        if not self.is_new and not weights().has(self._key(auto_class, kwargs)):
            self._check_computes(auto_class, **kwargs)
            with torch.random.fork_rng(devices=[]):  # a new head is drawn
                self.load(auto_class, **kwargs)

    def _check_computes(self, auto_class: Any, **kwargs: Any) -> None:
        model = self.outline(auto_class, **kwargs)
        try:
            compute(model)
        except Exception as error:  # which a broken config raises, of any type
            if is_of_machine(error):
                raise
            own_code = hasattr(self.config, "auto_map")
            given = {} if own_code else model.config.to_diff_dict()
            if reason := uncomputable(given, auto_class, error):
                raise self._source.unreadable(error, reason, ["config.json"]) from error

    def _key(self, auto_class: Any, kwargs: Mapping[str, Any]) -> object:
        folder = Path(self.location)  # or a name of the hub, whose files do not change
        files = sorted(stamp(p) for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
        return self.location, self.revision, self.is_trusted, auto_class, dict(kwargs), files

    def outline(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        """Build the model without any weights, to inspect its modules.

        Raises:
            ModelError: if this architecture has no such head, or cannot be built.
        """
        import torch

        self.check_head(auto_class.__name__)
        with torch.device("meta"):  # no memory, and nothing is drawn
            return self._draw(auto_class, **kwargs)

    def count_stored(self) -> int | None:
        """Count the parameters in its local file of weights; None if there is none.

        Raises:
            ModelError: if the file cannot be read.
        """
        file = Path(self.location, "model.safetensors")
        if self.is_new or not file.is_file():
            return None
        return sum(math.prod(tensor.shape) for tensor in stored_tensors(self._source, file.name))

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
        except Exception as error:  # which a broken config raises, of any type
            if is_of_machine(error):
                raise
            reason = unbuildable(config.to_diff_dict(), auto_class, error)
            if self.is_new:
                raise ModelError(f"{self._place}: {reason}.") from error
            raise self._source.unreadable(error, reason, ["config.json"]) from error
        return self._with_padding(model.eval())

    def _with_padding(self, model: "PreTrainedModel") -> "PreTrainedModel":
        if getattr(model.config, "pad_token_id", None) is None:
            model.config.pad_token_id = self.tokenizer.pad_token_id
        written = getattr(model, "generation_config", None)
        if written is not None and written.pad_token_id == -1:  # for none, as in old configs
            written.pad_token_id = model.config.pad_token_id
        if written is not None:
            try:
                written.validate(strict=True)
            except ValueError:  # as Llama 2 has settings of sampling alone: it could not be saved
                written.do_sample = True
        return model

    def _read(self, auto_class: Any, **kwargs: Any) -> "PreTrainedModel":
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()
        # Else transformers asks a public service to convert them, and loads from its pull request.
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        if not hasattr(self.config, "quantization_config"):
            check_floats(self._source)
        if getattr(self.config, "pad_token_id", 0) is None:
            kwargs["pad_token_id"] = None  # the file may say -1
        with self._source.reading(*WEIGHTS):
            model, found = auto_class.from_pretrained(
                self.location,
                revision=self.revision or "main",
                trust_remote_code=self.is_trusted,
                use_safetensors=True,
                weights_only=True,  # an index of safetensors can name other files
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # a head for other labels is replaced by a new one
                output_loading_info=True,
                **OUTPUTS,
                **kwargs,
            )
        writes = auto_class.__name__ in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
        check_loaded(model, found, self._source.at(*WEIGHTS), writes=writes)
        check_once(self._source, model)
        own = self.own_labels(auto_class.__name__)
        reorder_head(model, own, tuple(kwargs.get("id2label", {}).values()))
        return self._with_padding(model)

    @property
    def _source(self) -> Source:
        return Source("model.checkpoint", self.name, self.location)

    @property
    def _place(self) -> str:
        return "model.from_config" if self.is_new else self._source.place

    def own_labels(self, auto_class_name: str) -> tuple[str, ...]:
        """Return the names of the outputs of the head that was trained; none if it has no such."""
        heads, wanted = self.config.architectures or (), auto_class_name.removeprefix("AutoModel")
        is_named = wanted.endswith("Classification")  # others' outputs are no classes
        if self.is_new or not is_named or not any(wanted in head for head in heads):
            return ()
        return tuple(str(label) for _, label in sorted((self.config.id2label or {}).items()))

    def warnings(self, auto_class: Any, **kwargs: Any) -> list[str]:
        """Return what is odd about it: special tokens; once it was read, also what it lacks."""
        from pipeline.models.weights import weights

        if self.is_new:
            return []
        found = odd_tokens(self.tokenizer, self.config)
        drawn = weights().drawn(self._key(auto_class, kwargs))
        if any("pooler" in name for name in drawn):
            found.append(
                f"{self._place} has no weights of {listing(drawn)}: they are new and random"
            )
        return found

    def check_head(self, auto_class_name: str, task: str | None = None) -> None:
        """Refuse a model whose architecture lacks a head, before weights are read.

        Args:
            auto_class_name: of transformers, whose models have the head.
            task: that needs it.

        Raises:
            ModelError: naming the models of the menu that can.
        """
        if can(self.config, auto_class_name):
            return
        needed = f"task={task}: " if task else ""
        raise ModelError(
            f"{needed}{self._place} is a {self.config.model_type}, which has no "
            f"{head_name(auto_class_name)}. Models that can: "
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
        longest = min(positions, self.tokenizer.model_max_length)
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
        ModelError: for an unknown folder or hub name, a folder without a whole model, a model that
            is pickled or needs code of its own that is not trusted, and a config and a tokenizer
            that are not of one model.
        ConfigError: for a config that no model can be built from.
    """
    if config.from_config is not None:
        assert config.tokenizer is not None  # which the schema ensures
        source = Source.of("model.tokenizer", config.tokenizer)
        source.check_files()
        tokenizer, kind = _tokenizer(source), str(config.from_config.get("model_type"))
        made = new_config(config.from_config, tokenizer)
        return Checkpoint(kind, source.location, None, False, made, tokenizer, is_new=True)
    assert config.checkpoint is not None  # which the schema ensures
    other = None if config.tokenizer == config.checkpoint else config.tokenizer
    return open_checkpoint(
        Source.of("model.checkpoint", config.checkpoint),
        None if other is None else Source.of("model.tokenizer", other),
        revision=config.revision,
        is_trusted=config.trust_remote_code == config.checkpoint,
    )


def open_checkpoint(
    source: Source,
    tokenizer_source: Source | None = None,
    *,
    revision: str | None = None,
    is_trusted: bool = False,
) -> Checkpoint:
    """Load the config and tokenizer of a checkpoint that was found, by `read_checkpoint`.

    Args:
        source: of the model.
        tokenizer_source: of a tokenizer that is not the model's own.
        revision: of a model of the hub.
        is_trusted: whether the model's own code may run.

    Raises:
        ModelError: as `read_checkpoint` does.
    """
    given = source.check_model()
    options = {"revision": revision or "main", "trust_remote_code": is_trusted}
    config = _config(source, given, **options)
    if tokenizer_source is None:
        tokenizer = _tokenizer(source, **options)
    else:
        tokenizer_source.check_files()
        tokenizer = _tokenizer(tokenizer_source)
    check_embeddings(tokenizer_source or source, tokenizer, config)
    check_generation(source, config)
    source.check_weights()
    return Checkpoint(source.name, source.location, revision, is_trusted, config, tokenizer)


def _config(source: Source, given: Mapping[str, Any], **options: Any) -> "PretrainedConfig":
    from transformers import AutoConfig, AutoModel

    why = partial(unbuildable, given, AutoModel) if given and "auto_map" not in given else said
    with source.reading("config.json", why=why), without_log():
        config: PretrainedConfig = AutoConfig.from_pretrained(source.location, **options, **OUTPUTS)
    check_config(source, config)
    return config


def _tokenizer(source: Source, **options: Any) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    source.check_tokenizer()
    with source.reading(*TOKENIZERS):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.location, **options
        )
    check_tokenizer(source, tokenizer)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"{source.place}: its tokenizer has neither a padding nor an end token."
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
