"""Whether weights that were read are those of the model: else random ones take their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ModelError, amount, listing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Older releases saved buffers that are now computed.
_BUFFERS = (
    *("position_ids", "token_type_ids", "inv_freq", "masked_bias", "attn.bias"),
    *("attn.attention.bias", "attn.causal_mask"),  # of GPT-Neo and CodeGen
)
# Of models that have no module for what is not head.
_HEADS = ("qa_outputs", "classifier", "classification_head", "score")


def check_floats(folder: Path, place: str) -> None:
    """Refuse integers in a local folder's weights, which would be read as if they were floats.

    Raises:
        ModelError: naming tensors.
    """
    from safetensors import safe_open

    integers = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as stored:
            for name in stored.keys():  # noqa: SIM118
                tensor = stored.get_slice(name)
                dtype = tensor.get_dtype()
                is_mask = tensor.get_shape()[:2] == [1, 1]  # of attention, as older releases saved
                if not (dtype.startswith(("F", "BF")) or is_mask or name.endswith(_BUFFERS)):
                    integers.append(f"{name} ({dtype})")
    if integers:
        raise ModelError(
            f"{place}: its weights are no floats: {listing(integers, most=4)} "
            f"({amount(len(integers), 'tensor')}); expected float16, bfloat16 or float32. Save the "
            "model again from its float weights."
        )


def check_loaded(
    model: PreTrainedModel, found: Mapping[str, Any], place: str, *, writes: bool
) -> None:
    """Refuse weights that are missing, superfluous, misshapen or not finite.

    Only a new head may be missing or misshapen, and a head of another task superfluous; neither
    is part of the base model. A language model's head is not new: without it, it cannot write.

    Args:
        model: as it was read.
        found: transformers' ``output_loading_info``.
        place: what the user wrote.
        writes: whether it is a language model, whose head is not new.

    Raises:
        ModelError: naming tensors.
    """
    import torch

    base = model.base_model_prefix + "."
    children = (name for name, _ in model.base_model.named_children())
    parts = tuple(f"{name}." for name in children if name not in _HEADS)

    def is_of_base(name: str) -> bool:
        if "pooler" in name.split(".") or name.endswith(_BUFFERS):
            return False  # each is made for some tasks only
        return name.startswith((base, *parts))

    mismatched = {name: (stored, own) for name, stored, own in found["mismatched_keys"]}
    missing = [name for name in found["missing_keys"] if name not in mismatched]
    problems = [
        ("lack", (name for name in missing if writes or is_of_base(name))),
        (
            "have other shapes than config.json says:",
            (
                f"{name} ({list(stored)} instead of {list(own)})"
                for name, (stored, own) in mismatched.items()
                if writes or is_of_base(name)
            ),
        ),
        ("have what the model does not:", filter(is_of_base, found["unexpected_keys"])),
        (
            "are NaN or infinite:",
            # A sum is cheaper than a look at each, and finite only if all are.
            (
                n
                for n, p in model.named_parameters()
                if p.is_floating_point() and not torch.isfinite(p.detach().sum())
            ),
        ),
    ]
    for problem, names in problems:
        _refuse(place, problem, names, f"all of {type(model).__name__}")


def _refuse(place: str, problem: str, names: Iterable[str], model: str) -> None:
    wrong = sorted(names)
    if wrong:
        raise ModelError(
            f"{place}: its weights {problem} {listing(wrong, most=4)} "
            f"({amount(len(wrong), 'tensor')}); expected {model}, as others would take their "
            "place. Check that config.json and the weights are of the same model and whole."
        )
