"""What a library's error says of a model: one line, and the config's value that is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import did_you_mean, is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_Attempt = Callable[[Mapping[str, Any]], object]
_MOST = 300  # characters of a library's message


def said(error: BaseException) -> str:
    """Return in one line what a library says; an error of a strict dataclass repeats its cause."""
    from huggingface_hub.errors import StrictDataclassError

    if isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())[:_MOST].rstrip(".")
    return text if " " in text else f"{type(error).__name__} {text}".rstrip()


def is_of_machine(error: Exception) -> bool:
    """Whether no file can be to blame for an error: of memory, or of an accelerator."""
    from torch import AcceleratorError

    return is_out_of_memory(error) or isinstance(error, AcceleratorError)


def unknown_kind(kind: object) -> str:
    """Say that transformers has no such architecture; nothing of one that it has."""
    from transformers import CONFIG_MAPPING

    kinds = [str(name) for name in CONFIG_MAPPING]
    if kind in kinds:
        return ""
    return f"transformers has no such architecture.{did_you_mean(str(kind), kinds)}"


def unbuildable(given: Mapping[str, Any], auto_class: Any, error: Exception) -> str:
    """Say why no model can be built from a config, and by which of its values.

    Args:
        given: the config, with ``model_type``.
        auto_class: of transformers, whose model was to be built.
        error: that was raised.
    """
    if isinstance(error, ImportError):
        return said(error)
    values = blamed(given, partial(_build, auto_class)) or "these values"
    return f"cannot build a {given.get('model_type')} with {values}: {said(error)}"


def uncomputable(given: Mapping[str, Any], auto_class: Any, error: Exception) -> str:
    """Say by which values of a config no outputs can be computed; nothing where none is to blame.

    Models that read the values of tensors cannot be computed without any, nor can their defaults.

    Args:
        given: the config, with ``model_type``.
        auto_class: of transformers, whose model was to be computed.
        error: that was raised.
    """

    def attempt(changed: Mapping[str, Any]) -> None:
        compute(_build(auto_class, changed))

    defaults = {key: given[key] for key in given.keys() & {"model_type", "pad_token_id"}}
    if isinstance(error, ImportError) or "meta" in str(error) or not _succeeds(attempt, defaults):
        return ""
    values = blamed(given, attempt)
    return f"cannot compute a {given['model_type']} with {values}: {said(error)}" if values else ""


def compute(model: PreTrainedModel) -> None:
    """Compute the outputs of a model that has no weights, in training, for the errors."""
    import torch

    ids = torch.ones(2, 11, dtype=torch.long, device="meta")  # no multiple of a chunk
    model.config.use_cache = False  # as in training
    decoder = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    for part in model.modules():  # a warning and an attention mask would be asked for their values
        if hasattr(part, "warn_if_padding_and_no_attention_mask"):
            part.warn_if_padding_and_no_attention_mask = lambda *_: None
    with torch.no_grad(), torch.random.fork_rng(devices=[]):  # some draw which layers they skip
        model.train()(input_ids=ids, **decoder)


@contextmanager
def without_log() -> Iterator[None]:
    """Keep what transformers logs of an error, with a whole config, from the terminal."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def blamed(given: Mapping[str, Any], attempt: _Attempt) -> str:
    """Return the values for which an attempt fails; nothing where several do together.

    Libraries check few values: others make them fail anywhere, by errors of any type, which seldom
    name the key. So each value in turn is left out, or is 1, to see whether the attempt succeeds.
    """
    if _succeeds(attempt, given):
        return ""
    wrong = []
    for key in given.keys() - {"model_type"}:
        others = {k: v for k, v in given.items() if k != key}
        ones = [{**others, key: 1}] if isinstance(given[key], int | float) else []
        if any(_succeeds(attempt, changed) for changed in (others, *ones)):
            wrong.append(f"{key}={given[key]!r:.80}")
    return " and ".join(sorted(wrong))


def _succeeds(attempt: _Attempt, given: Mapping[str, Any]) -> bool:
    try:
        with without_log():
            attempt(given)
    # It is asked whether there is one.
    except Exception:
        return False
    return True


def _build(auto_class: Any, given: Mapping[str, Any]) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig

    with torch.device("meta"):  # no memory, and nothing is drawn
        model: PreTrainedModel = auto_class.from_config(AutoConfig.for_model(**given))
    return model
