"""What a library's error says of a model: one line, and the config's value that is at fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import did_you_mean, is_out_of_memory

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

    Libraries check few values: others make them fail anywhere, by errors of any type, which seldom
    name the key. So each value in turn is left out, or is 1, to see whether a model can be built.

    Args:
        given: the config, with ``model_type``.
        auto_class: of transformers, whose model was to be built.
        error: that was raised.
    """
    if isinstance(error, ImportError):
        return said(error)
    values = " and ".join(sorted(_wrong(given, auto_class))) or "these values"
    return f"cannot build a {given.get('model_type')} with {values}: {said(error)}"


def _wrong(given: Mapping[str, Any], auto_class: Any) -> list[str]:
    if _builds(given, auto_class):
        return []
    wrong = []
    for key in given.keys() - {"model_type"}:
        others = {k: v for k, v in given.items() if k != key}
        ones = [{**others, key: 1}] if isinstance(given[key], int | float) else []
        if any(_builds(changed, auto_class) for changed in (others, *ones)):
            wrong.append(f"{key}={given[key]!r:.80}")
    return wrong


def _builds(given: Mapping[str, Any], auto_class: Any) -> bool:
    import torch
    from transformers import AutoConfig

    try:
        with torch.device("meta"):  # no memory, and nothing is drawn
            auto_class.from_config(AutoConfig.for_model(**given))
    # It is asked whether there is one.
    except Exception:
        return False
    return True
