"""Whether weights that were read are those of the model: else random ones take their place."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.common.errors import ModelError, amount, listing
from pipeline.models.faults import said
from pipeline.models.source import Source, names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Older releases saved buffers that are now computed.
_BUFFERS = (
    *("position_ids", "token_type_ids", "inv_freq", "masked_bias", "attn.bias"),
    *("attn.attention.bias", "attn.causal_mask"),  # of GPT-Neo and CodeGen
)
# Of models that have no module for what is not head.
_HEADS = ("qa_outputs", "classifier", "classification_head", "score")
_FLOATS = ("F16", "BF16", "F32", "F64")
_LAYER = re.compile(r".*?\.\d+\.")  # up to its number


class Stored(NamedTuple):
    """A tensor in a file of weights, by its description alone."""

    name: str
    dtype: str  # of safetensors: F32
    shape: Sequence[int]


def stored_tensors(source: Source, file: str) -> Iterator[Stored]:
    """Yield the tensors of a file of weights in a local folder.

    Raises:
        ModelError: for a file that is no safetensors, or not whole.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(source.location, file), framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118
                tensor = opened.get_slice(name)
                yield Stored(name, tensor.get_dtype(), tensor.get_shape())
    except (SafetensorError, OSError) as error:
        problem = f"it is no safetensors file, or not whole: {said(error)}"
        raise source.fault(problem, file) from error


def check_floats(source: Source) -> None:
    """Refuse weights in a local folder that are no floats of 16 bits or more.

    They would be read as if they were; quantized ones need a scale.

    Raises:
        ModelError: naming tensors.
    """
    for file in names(source.folder, ["*.safetensors"]) if source.folder else ():
        wrong = [
            f"{name} ({dtype})"
            for name, dtype, shape in stored_tensors(source, file)
            if dtype not in _FLOATS
            and not name.endswith(_BUFFERS)
            and list(shape[:2]) != [1, 1]  # a mask of attention, as older releases saved
        ]
        if wrong:
            raise ModelError(
                f"{source.place}: {file}: its weights are no floats: {listing(wrong, most=4)} "
                f"({amount(len(wrong), 'tensor')}); expected float16, bfloat16 or float32. Save "
                "the model again from its float weights."
            )


def check_loaded(
    model: PreTrainedModel, found: Mapping[str, Any], place: str, *, writes: bool
) -> None:
    """Refuse weights that are missing, superfluous, misshapen, not finite or all zero.

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
    base = model.base_model_prefix + "."
    children = (name for name, _ in model.base_model.named_children())
    parts = tuple(f"{name}." for name in children if name not in _HEADS)

    def is_of_base(name: str) -> bool:
        if "pooler" in name.split(".") or name.endswith(_BUFFERS):
            return False  # each is made for some tasks only
        return name.startswith((base, *parts))

    mismatched = {name: (stored, own) for name, stored, own in found["mismatched_keys"]}
    missing = [name for name in found["missing_keys"] if name not in mismatched]
    # A sum is cheaper than a look at each: finite only if all are, and zero where all are.
    sums = {
        n: p.detach().sum().item() for n, p in model.named_parameters() if p.is_floating_point()
    }
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
        ("are NaN or infinite:", (name for name, total in sums.items() if not isfinite(total))),
        ("are all zero:", _zero(model, [n for n, total in sums.items() if not total], is_of_base)),
    ]
    for problem, wrong in problems:
        _refuse(place, problem, wrong, type(model).__name__)


def _zero(
    model: PreTrainedModel, suspects: Sequence[str], is_of_base: Callable[[str], bool]
) -> Iterator[str]:
    """Yield the matrices that are zero: the tokens' embedding, and those of a layer without others.

    A single matrix may be: biases, unused token types, branches of layers that were added.
    """
    own = dict(model.named_parameters())
    zero = {name for name in suspects if not own[name].any()}
    layers = defaultdict(set)  # name of each layer: its matrices
    for name, parameter in own.items():
        if parameter.ndim > 1 and is_of_base(name) and (layer := _LAYER.match(name)):
            layers[layer[0]].add(name)
    with suppress(NotImplementedError):  # of a model of characters, which are hashed
        embedding = getattr(model.get_input_embeddings(), "weight", None)
        yield from (name for name in zero if own[name] is embedding)
    yield from (name for matrices in layers.values() if matrices <= zero for name in matrices)


def _refuse(place: str, problem: str, wrong: Iterable[str], model: str) -> None:
    if named := sorted(wrong):
        raise ModelError(
            f"{place}: its weights {problem} {listing(named, most=4)} "
            f"({amount(len(named), 'tensor')}); expected trained ones for all of {model}. "
            "Check that config.json and the weights are of the same model and whole."
        )
