"""Activations of frozen layers on disk: one vector per token, one entry per split."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.common.disk_cache import Entries
from pipeline.common.private import make_folder
from pipeline.models.transformers_parts import attention_of
from pipeline.training.speedups.replaced import UnfitError

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedModel

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

_NO_INPUTS = {"row", "labels", "start_positions", "end_positions"}  # columns that no layer reads
_FREE_SHARE = 0.25  # of the free disk space: the most that is used
_FORMAT = 1  # of what lies on disk
_VALUES, _ABOUT = "activations", "about.json"  # of an entry
# Keys of a config that no layer reads; versions are among the packages'.
_NO_CONFIG = {"id2label", "label2id", "problem_type", "transformers_version", "_name_or_path"}

# numpy has no bfloat16.
NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}
TORCH = {str(dtype): dtype for dtype in NUMPY}


@dataclass(frozen=True)
class Form:
    """The form of the frozen layers' output."""

    dtype: str  # torch's name
    width: int
    tuples: tuple[int, ...]  # length of a layer's tuple, whose first element counts; 0: a tensor

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type in which it is stored."""
        return np.dtype(NUMPY[TORCH[self.dtype]])

    @property
    def token_bytes(self) -> int:
        """The bytes of a token."""
        return self.width * self.numpy.itemsize


def form_of(outputs: Sequence[tuple[int, Any]], layers: int) -> Form:
    """Describe the layers' output."""
    if [place for place, _ in outputs] != list(range(layers)):
        raise UnfitError("they do not run once each, in order")
    vectors = hidden_states(outputs[-1][1])
    if vectors.dtype not in NUMPY:
        raise UnfitError(f"their output is {vectors.dtype}")
    sizes = tuple(len(o) if isinstance(o, tuple) else 0 for _, o in outputs)
    return Form(str(vectors.dtype), vectors.shape[-1], sizes)


def hidden_states(output: Any) -> Tensor:
    """Return a layer's hidden states, [examples, tokens, width]."""
    vectors: Tensor = output[0] if isinstance(output, tuple) else output
    return vectors


def checked_states(output: Any, examples: int, tokens: int) -> Tensor:
    """Return a layer's hidden states if there is one per token of the batch."""
    vectors = hidden_states(output)
    shape = tuple(vectors.shape)
    if shape[:2] != (examples, tokens) or len(shape) != 3:
        raise UnfitError(f"their output is {shape} for {examples} examples of {tokens} tokens")
    return vectors


@dataclass
class Stored:
    """A split's activations on disk: one vector per token, example by example."""

    key: str
    offsets: Array  # [examples + 1]: where each example's begin
    values: Array = field(init=False)  # [tokens, width]: once they are read

    @property
    def tokens(self) -> int:
        """All tokens of the split."""
        return int(self.offsets[-1])


class Store:
    """Activations on disk, one entry per split; together they take at most ``most_bytes``."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self._entries = Entries(folder, most_bytes)

    def form(self, one: Stored) -> Form | None:
        """Return the form of what is stored and mark it as used; None if missing or incomplete."""
        entry = self.folder / one.key
        try:
            values = json.loads((entry / _ABOUT).read_text(encoding="utf-8"))
            form = Form(values["dtype"], values["width"], tuple(values["tuples"]))
            if (entry / _VALUES).stat().st_size != one.tokens * form.token_bytes:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._entries.touch(one.key)
        return form

    def has_room(self, form: Form, every: Sequence[Stored], missing: Sequence[Stored]) -> bool:
        """Whether there is room for all of it; logs if there is not."""
        total, new = (
            sum({one.key: one.tokens * form.token_bytes for one in some}.values())
            for some in (every, missing)
        )
        folder, most = self.folder, self._entries.most_bytes
        make_folder(folder)
        free = shutil.disk_usage(folder).free
        if total <= most and new <= free * _FREE_SHARE:
            self._entries.tidy({one.key for one in every}, new)
            return True
        log.info(
            "the frozen-layer cache is off: it needs %d MB, %d MB of them new; the limit is %d MB, "
            "and a quarter of the %d MB of free disk space",
            *(n // 1_000_000 for n in (total, new, most, free)),
        )
        return False

    def make(self, one: Stored, form: Form, write: Callable[[Path], None]) -> bool:
        """Have a missing entry written; return False if another process just did."""
        with self._entries.alone(one.key):
            if self.form(one) is not None:
                return False
            self._entries.remove(one.key)  # an incomplete one
            with self._entries.put(one.key) as path:
                write(path / _VALUES)
                (path / _ABOUT).write_text(json.dumps(asdict(form)), encoding="utf-8")
        return True

    def read(self, every: Sequence[Stored]) -> Form:
        """Map what is stored into memory."""
        form, *others = (self.form(one) for one in every)
        if form is None or any(other != form for other in others):
            raise OSError("stored activations are missing or inconsistent")
        for one in every:
            path, shape = self.folder / one.key / _VALUES, (one.tokens, form.width)
            one.values = np.memmap(path, form.numpy, mode="r", shape=shape)
        return form


def common_key(
    model: PreTrainedModel, frozen: Sequence[Any], key_parts: Mapping[str, Any], precision: str
) -> str:
    """Digest everything but the tokens that determines the activations."""
    import transformers

    config = {k: v for k, v in model.config.to_dict().items() if k not in _NO_CONFIG}
    return digest_of(
        [
            _FORMAT,
            f"{type(model).__module__}.{type(model).__qualname__}",
            config,
            attention_of(model.config),
            *frozen,
            model.device.type,
            precision,
            torch.get_float32_matmul_precision(),
            torch.__version__,
            transformers.__version__,
            dict(key_parts),
        ]
    )


def digest_of(values: Any) -> str:
    """Digest plain values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def inputs_digest(dataset: Dataset) -> str:
    """Digest what the model reads of a split: numbers and lists of numbers, however they lie."""
    import pyarrow as pa
    import pyarrow.compute as pc

    digest = hashlib.blake2b(digest_size=16)
    table = dataset.with_format("arrow")[:]
    for name in sorted(set(table.column_names) - _NO_INPUTS):
        column = table.column(name)
        digest.update(f"{name} {column.type} {len(column)}\n".encode())
        is_list = pa.types.is_nested(column.type)
        parts = [pc.list_value_length(column), pc.list_flatten(column)] if is_list else [column]
        for part in parts:
            digest.update(part.to_numpy().data)
    return digest.hexdigest()


def token_offsets(dataset: Dataset) -> Array:
    """Return where each example's tokens begin if they lie one after the other, [examples + 1]."""
    import pyarrow.compute as pc

    ids = dataset.select_columns("input_ids").with_format("arrow")[:].column(0)
    return np.cumsum([0, *pc.list_value_length(ids).to_numpy()], dtype=np.int64)
