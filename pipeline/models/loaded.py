"""Whether weights that were read are those of the model: else random ones take their place."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.common.errors import ModelError, listing
from pipeline.models.faults import said
from pipeline.models.source import Source, names

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Older releases saved buffers that are now computed.
_BUFFERS = (
    *("position_ids", "token_type_ids", "inv_freq", "masked_bias", "attn.bias"),
    *("attn.attention.bias", "attn.causal_mask"),  # of GPT-Neo and CodeGen
)
# Of models that have no module for what is not head.
_HEADS = ("qa_outputs", "classifier", "classification_head", "score")
_FLOATS = ("F16", "BF16", "F32", "F64")
# What adapters add to a model, of PEFT and of adapters: without it the rest predicts otherwise.
_ADAPTER = re.compile(
    r"(^|\.)(base_model|base_layer|modules_to_save|lora|(lora|ia3|hada|lokr|oft|vera|prompt)_\w+"
    r"|adapters?)(\.|$)"
)
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
                f"{source.place}: {file}: its weights are no floats: {listing(wrong, most=4)}; "
                f"expected float16, bfloat16 or float32. Save "
                "the model again from its float weights."
            )


def check_once(source: Source, model: PreTrainedModel) -> None:
    """Refuse weights in a local folder that hold a tensor twice, with two values.

    Raises:
        ModelError: naming both.
    """
    places = defaultdict(list)  # of each tensor, which may be named as the base model's own
    for file in _files_read(source.folder) if source.folder else ():
        for name, *_ in stored_tensors(source, file):
            places[name.removeprefix(f"{model.base_model_prefix}.")].append((file, name))
    wrong = [
        " and ".join(f"{name} in {file}" for file, name in both)
        for both in places.values()
        if len(both) > 1 and not _are_alike(source, both)
    ]
    if wrong:
        raise ModelError(
            f"{source.place}: its weights contradict themselves: {listing(wrong, most=2)} differ, "
            "but are one tensor of the model. Delete those that are not of it, or save the model "
            "again with save_pretrained(folder)."
        )


def _files_read(folder: Path) -> list[str]:
    """Return the files that transformers reads: the whole one before the shards of an index."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    return sorted(set(json.loads(index.read_bytes())["weight_map"].values()))


def _are_alike(source: Source, places: Sequence[tuple[str, str]]) -> bool:
    import torch
    from safetensors import safe_open

    tensors = []
    for file, name in places:
        with safe_open(Path(source.location, file), framework="pt") as opened:
            tensors.append(opened.get_tensor(name).float())
    return all(torch.equal(tensors[0], tensor) for tensor in tensors[1:])


def reorder_head(model: PreTrainedModel, given: Sequence[str], wanted: Sequence[str]) -> None:
    """Put the outputs of a trained head in another order of the same labels."""
    from torch import nn

    if list(given) == list(wanted) or sorted(given) != sorted(wanted):
        return
    rows = [given.index(label) for label in wanted]
    base = f"{model.base_model_prefix}."
    last = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not name.startswith(base)
        and len(module.weight) == len(rows)
    ][-1:]
    for parameter in (p for module in last for p in module.parameters()):
        parameter.data = parameter.data[rows]  # a new tensor: the file's may be shared


def check_loaded(
    model: PreTrainedModel, found: Mapping[str, Any], place: str, *, writes: bool
) -> None:
    """Refuse weights that are missing, superfluous, misshapen, not finite or of one value.

    Only a new head may be missing, or trained for another number of labels, and a head of another
    task superfluous; neither is part of the base model, nor is a pooler. A language model's head is
    not new: without it, it cannot write.

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

    def is_needed(name: str) -> bool:
        return writes or is_of_base(name)

    mismatched = {name: (stored, own) for name, stored, own in found["mismatched_keys"]}
    missing = [name for name in found["missing_keys"] if name not in mismatched]
    own = dict(model.named_parameters())
    read = {_module(name) for name in own.keys() - {*missing, *mismatched}} - {""}
    # A sum is cheaper than a look at each: finite only if all are.
    sums = {n: p.detach().sum().item() for n, p in own.items() if p.is_floating_point()}
    problems = [
        ("lack", (name for name in missing if is_needed(name) or _module(name) in read)),
        (
            "have other shapes than config.json says:",
            (
                f"{name} ({list(stored)} instead of {list(expected)})"
                for name, (stored, expected) in mismatched.items()
                if is_needed(name) or "pooler" in name or stored[:1] == expected[:1]
            ),
        ),
        (
            "have what the model does not:",
            (n for n in found["unexpected_keys"] if is_of_base(n) or _ADAPTER.search(n)),
        ),
        ("are NaN or infinite:", (name for name, total in sums.items() if not isfinite(total))),
        ("have one value throughout:", _constant(model, is_of_base)),
    ]
    for problem, wrong in problems:
        _refuse(place, problem, wrong, type(model).__name__)


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _constant(model: PreTrainedModel, is_of_base: Callable[[str], bool]) -> Iterator[str]:
    """Yield the matrices of one value: the tokens' embedding, and those of a layer without others.

    A single matrix may be: biases, unused token types, branches of layers that were added.
    """
    own = dict(model.named_parameters())
    constant = {name for name, parameter in own.items() if _is_constant(parameter)}
    layers = defaultdict(set)  # name of each layer: its matrices
    for name, parameter in own.items():
        if parameter.ndim > 1 and is_of_base(name) and (layer := _LAYER.match(name)):
            layers[layer[0]].add(name)
    embedding = None
    with suppress(NotImplementedError):  # a model of characters hashes them
        embedding = getattr(model.get_input_embeddings(), "weight", None)
    yield from (name for name in constant if own[name] is embedding)
    yield from (name for matrices in layers.values() if matrices <= constant for name in matrices)


def _is_constant(parameter: torch.Tensor) -> bool:
    values = parameter.detach().flatten()
    some = values[:64]  # seldom alike in a trained one
    return (
        parameter.is_floating_point()
        and len(values) > 1
        and bool((some == some[0]).all())
        and bool((values == some[0]).all())
    )


def _refuse(place: str, problem: str, wrong: Iterable[str], model: str) -> None:
    if named := sorted(wrong):
        raise ModelError(
            f"{place}: its weights {problem} {listing(named, most=4)}; "
            f"expected trained ones for all of {model}. "
            "Check that config.json and the weights are of the same model and whole."
        )
