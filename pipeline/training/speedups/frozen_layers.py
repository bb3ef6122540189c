"""Frozen layers: without dropout, and computed once for all trials that have the same ones.

Where the first layers and all before them are frozen, what they make of an example is the same at
every step, in every epoch and trial. It is computed once, stored unpadded, and handed to the first
layer that is trained. Equal to what is computed each time, but for the last bits: sums come out
otherwise where a batch has other padding.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from pipeline.common.errors import ConfigError
from pipeline.models.adapters import _after_layers, _layers, new_head
from pipeline.models.batches import autocast, call_tokens, cut

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from torch.nn import Module, ModuleList
    from transformers import PreTrainedModel

    from pipeline.tasks.base import Batch, Examples, Task

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

STORED = "stored"  # column: an example's position in what is stored
_GIVEN = "prefix_activations"  # of a batch, [examples, tokens, width]
_NO_INPUTS = {"row", "labels", "start_positions", "end_positions"}  # columns that no layer reads

_TOKENS, _EXAMPLES = 16_384, 64  # at once, when it is computed: fixed, so that its bits are
_MOST_BYTES = 20 * 2**30  # of all that is stored
_FREE_SHARE = 0.25  # of the disk's room, which is the most that is taken
_OVERHEAD = 1.1  # of a pass whose result is written, against one that is not
_VALIDATION_SHARE = 0.1  # its rows, by those of training
_SAME = 1e-4  # relative error of a vector; where padding is read it is greater
_TRIED = 4  # lengths
_FORMAT = 1  # of what lies on disk
_VALUES, _ABOUT = "activations", "about.json"  # of an entry
# Of a config, what no layer reads; its versions are among the packages'.
_NO_CONFIG = {"id2label", "label2id", "problem_type", "transformers_version", "_name_or_path"}

# bfloat16 is no type of numpy's.
_NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}
_TORCH = {str(dtype): dtype for dtype in _NUMPY}

M = TypeVar("M", bound="PreTrainedModel")


class NoActivationsError(RuntimeError):
    """A model whose first layers are replaced was called on a batch that they know nothing of."""


def pays(epochs: float, evaluations: int, *, in_sweep: bool) -> bool:
    """Return whether storing costs less than computing the frozen layers whenever they are needed.

    Args:
        epochs: passes over the training split.
        evaluations: passes over the validation split.
        in_sweep: whether other trials can use it.
    """
    each_time = epochs + evaluations * _VALIDATION_SHARE
    return in_sweep or each_time > (1 + _VALIDATION_SHARE) * _OVERHEAD


class _UnfitError(Exception):
    """Frozen layers whose output cannot be stored and given exactly; says why."""


class _Quiet:
    """Switches dropout off in some modules whenever the model is about to compute.

    Trainer sets the whole model to training at every step. It holds names, not modules, so that it
    is right for a copy of the model as well.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, model: Module, _: object) -> None:
        if model.training:
            for name in self._names:
                model.get_submodule(name).eval()


def quiet(model: M) -> M:
    """Keep dropout off in what is frozen, up to the first trained layer, also in training mode.

    For models of which the head or the top layers are trained, not for adapters: what a frozen
    module gives is then the same at every step, whether or not it is stored. Modules after the
    layers that have no weights of their own are quiet as well if the model has them beside its
    layers; the head's dropout is not.
    """
    if not any(isinstance(hook, _Quiet) for hook in model._forward_pre_hooks.values()):
        model.register_forward_pre_hook(_Quiet(tuple(_frozen(model))))
    return model


def _frozen(model: PreTrainedModel) -> Iterator[str]:
    """Yield the names of the largest modules of the base model that have nothing to train."""
    root: Module = model.base_model
    layers: ModuleList | None = None
    with suppress(ConfigError):
        is_pair = hasattr(root, "encoder") and hasattr(root, "decoder")
        _, layers = _layers(root.get_submodule("decoder") if is_pair else root)

    yield from _below(root, "" if root is model else model.base_model_prefix, layers)


# No function inside of another: that would refer to itself, and keep the layers' memory.
def _below(module: Module, name: str, layers: Module | None) -> Iterator[str]:
    if not _is_trained(module):
        yield name
    elif any(m is layers for m in module.modules()):
        for child_name, child in module.named_children():
            yield from _below(child, f"{name}.{child_name}".lstrip("."), layers)


def _is_trained(module: Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _frozen_layers(model: PreTrainedModel) -> tuple[tuple[Module, ...], str] | None:
    """Find the layers at the beginning that are not trained.

    Returns:
        The layers, and a digest of all weights and buffers that they and what is before them can
        read; None where there are none, or what is before them is trained.
    """
    if model.config.is_encoder_decoder:
        return None
    root: Module = model.base_model
    try:
        place, layers = _layers(root)
    except ConfigError:
        return None
    count = next((i for i, layer in enumerate(layers) if _is_trained(layer)), len(layers))
    if not count:
        return None
    head = [model.get_submodule(name) for name in new_head(model)]
    after = [*layers[count:], *_after_layers(root, place), *head]
    later = {id(t) for module in after for t in chain(module.parameters(), module.buffers())}
    if any(p.requires_grad and id(p) not in later for p in root.parameters()):
        return None
    tensors = chain(root.named_parameters(), root.named_buffers())
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        if id(tensor) not in later:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
    return tuple(layers[:count]), digest.hexdigest()


@dataclass(frozen=True)
class _Form:
    """What the frozen layers give."""

    dtype: str  # torch's name
    width: int
    tuples: tuple[int, ...]  # a layer's elements, of which the first counts; 0: a tensor

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type by which it is stored."""
        return np.dtype(_NUMPY[_TORCH[self.dtype]])

    @property
    def token_bytes(self) -> int:
        """The bytes of a token."""
        return self.width * self.numpy.itemsize


class _Slot:
    """Holds a batch's activations, [examples, tokens, width], until the last frozen layer's turn.

    They are taken once: a second call of the model has to be given its own.
    """

    def __init__(self) -> None:
        self.given: Tensor | None = None

    def take(self, instead_of: Tensor) -> Tensor:
        given, self.given = self.given, None
        if given is None:
            raise NoActivationsError(
                "the model's frozen layers are replaced by stored activations, and this batch has "
                "none; expected examples of the prefix cache, by its task, or a restored model."
            )
        if given.shape[:2] != instead_of.shape[:2]:
            raise NoActivationsError(
                f"stored activations of {tuple(given.shape[:2])} examples and tokens, for a batch "
                f"of {tuple(instead_of.shape[:2])}: the task changes what the model reads."
            )
        return given.to(instead_of.device)


class _Replaced:
    """What a frozen layer computes instead: nothing; the last of them what is stored."""

    def __init__(self, elements: int, slot: _Slot | None) -> None:
        self._elements = elements
        self._slot = slot

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else next(iter(kwargs.values()))
        if self._slot is not None:
            hidden = self._slot.take(hidden)
        return (hidden, *[None] * (self._elements - 1)) if self._elements else hidden


def _replace(layers: Sequence[Module], form: _Form, slot: _Slot) -> None:
    """Replace what layers compute; the modules stay, so that all names and states do."""
    for layer, elements in zip(layers, form.tuples, strict=True):
        layer.forward = _Replaced(elements, slot if layer is layers[-1] else None)


def _restore(layers: Sequence[Module]) -> None:
    for layer in layers:
        del layer.forward


@dataclass
class _Stored:
    """A split's activations on disk: a vector a token, one example's after the other's."""

    key: str
    offsets: Array  # [examples + 1]: where each example's begin
    values: Array = field(init=False)  # [tokens, width]: once they are read

    @property
    def tokens(self) -> int:
        return int(self.offsets[-1])


class PrefixCache:
    """A model whose frozen layers are replaced by what they gave, and the way back.

    Args:
        task: of the run.
        examples: the splits by name.
        stored: what is stored of each of them.
        layers: of the model, replaced until `restore`.
        form: what they give.

    Attributes:
        examples: the splits, with a column that says where an example is stored.
    """

    def __init__(
        self,
        task: Task[Any],
        examples: Mapping[str, Examples],
        stored: Sequence[_Stored],
        layers: Sequence[Module],
        form: _Form,
    ) -> None:
        self._task = task
        self._stored = stored
        self._first = np.cumsum([0, *(len(of.offsets) - 1 for of in stored)])[:-1]
        self._layers = tuple(layers)
        self._form = form
        self._slot = _Slot()
        placed = map(_placed, examples.values(), self._first.tolist())
        self.examples = dict(zip(examples, placed, strict=True))
        _replace(self._layers, form, self._slot)

    @property
    def task(self) -> Task[Any]:
        """The task, whose batches bring their activations and whose forward uses them."""
        made = copy.copy(self._task)
        made.collate = self.collate  # type: ignore[method-assign]
        made.forward = self.forward  # type: ignore[method-assign]
        return made

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        """Make a batch of examples of this cache, padded to the longest, with its activations.

        Raises:
            NoActivationsError: for other examples.
        """
        if any(STORED not in example for example in examples):
            raise NoActivationsError("these examples are not those of the prefix cache.")
        plain = [{k: v for k, v in example.items() if k != STORED} for example in examples]
        batch = self._task.collate(plain)
        places = [example[STORED] for example in examples]
        return {**batch, _GIVEN: self._padded(places, batch["input_ids"].shape[1])}

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
        """Return what the task's forward does.

        Raises:
            NoActivationsError: for a batch that `collate` did not make.
        """
        plain = {name: value for name, value in batch.items() if name != _GIVEN}
        self._slot.given = batch.get(_GIVEN)
        try:
            return self._task.forward(model, plain)
        finally:
            self._slot.given = None

    def restore(self) -> None:
        """Put the model's own layers back; to be called before it is saved or asked."""
        _restore(self._layers)
        self._layers = ()

    def _padded(self, places: Sequence[int], longest: int) -> Tensor:
        """Read what is stored at some places, of shape [places, longest, width]."""
        array = np.zeros((len(places), longest, self._form.width), self._form.numpy)
        splits = np.searchsorted(self._first, places, side="right") - 1
        for i, (place, split) in enumerate(zip(places, splits, strict=True)):
            of, k = self._stored[split], place - self._first[split]
            start, end = of.offsets[k : k + 2]
            array[i, : end - start] = of.values[start:end]
        return torch.from_numpy(array).view(_TORCH[self._form.dtype])


def prefix_cache(
    model: PreTrainedModel,
    task: Task[Any],
    examples: Mapping[str, Examples],
    folder: Path,
    key_parts: Mapping[str, Any],
    precision: str,
    most_bytes: int = _MOST_BYTES,
) -> PrefixCache | None:
    """Replace a model's frozen layers by what they give for some splits, computed where missing.

    Not for tasks that let the model write (`Task.generate`), nor for encoder-decoders. The model
    is moved to the accelerator if there is one. Other processes wait while one computes.

    Args:
        model: as it is about to be trained; its dropout is made `quiet`.
        task: that encoded the examples; it gives the model what `collate` makes, unchanged.
        examples: the splits by name.
        folder: where it is stored, for all runs.
        key_parts: what else the activations depend on; weights, config, tokens, versions and the
            kind of device are seen to here.
        precision: "float32", or "bfloat16" for autocast.
        most_bytes: of the folder; what was used longest ago makes room.

    Returns:
        None where it cannot be, is not exact or has no room; why is logged. The model is as it was.
    """
    found = _frozen_layers(model)
    if found is None or not all(len(of.dataset) for of in examples.values()):
        return None
    quiet(model)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    layers, weights = found
    common = _common_key(model, [weights, len(layers)], key_parts, precision)
    splits = list(examples.values())
    wanted = [
        _Stored(_digest([common, _inputs_digest(of.dataset)]), _offsets(of.dataset))
        for of in splits
    ]
    store = _Store(folder, most_bytes)
    maker = _Maker(model, task, layers, precision)
    try:
        if any("forward" in vars(layer) for layer in layers):
            raise _UnfitError("one has a forward of its own")
        missing = [i for i, one in enumerate(wanted) if store.form(one) is None]
        computed = 0
        if missing:
            made = maker.form(splits[missing[0]])
            if not store.has_room(made, wanted, [wanted[i] for i in missing]):
                return None
            computed = sum(store.make(wanted[i], made, maker, splits[i]) for i in missing)
        form = store.read(wanted)
    except _UnfitError as error:
        log.info("the frozen layers are computed each time: %s", error)
        return None
    except (OSError, NotImplementedError) as error:  # of the disk, or of its locks
        log.warning("the frozen layers are computed each time: %s: %s", folder, error)
        return None
    log.info(
        "the output of %d frozen layers is read from %s; computed now: %d of %d splits",
        len(layers),
        folder,
        computed,
        len(wanted),
    )
    return PrefixCache(task, examples, wanted, layers, form)


class _Maker:
    """Computes what a model's frozen layers give."""

    def __init__(
        self, model: PreTrainedModel, task: Task[Any], layers: Sequence[Module], precision: str
    ) -> None:
        self._model = model
        self._task = task
        self._layers = layers
        self._precision = precision

    def form(self, examples: Examples) -> _Form:
        """Try a few lengths, and say what the layers give.

        Raises:
            _UnfitError: where what is stored would not be exact.
        """
        offsets = _offsets(examples.dataset)
        _, firsts = np.unique(np.diff(offsets), return_index=True)  # an example of each length
        some = [firsts[i] for i in {*np.linspace(0, len(firsts) - 1, _TRIED).astype(int)}]
        alone: list[Tensor] = []
        for i in some:
            outputs = self._outputs(self._layers, self._batch(examples, [i]), "float32")
            form = _form_of(outputs, len(self._layers))
            alone.append(_checked(outputs[-1][1], 1, int(offsets[i + 1] - offsets[i]))[0])
        batch = self._batch(examples, some)
        self._compare(batch, alone, form)
        if self._precision == "float32":
            return form
        return _form_of(self._outputs(self._layers, batch, self._precision), len(self._layers))

    def write(self, examples: Examples, form: _Form, path: Path) -> None:
        """Write the activations of all tokens of a split, one example after the other."""
        offsets = _offsets(examples.dataset)
        lengths = np.diff(offsets)
        last, dtype = self._layers[-1:], _TORCH[form.dtype]
        with path.open("wb") as file:
            for some in cut(
                lengths.tolist(), _TOKENS, call_tokens(self._model, training=False), _EXAMPLES
            ):
                batch = self._batch(examples, some)
                ((_, output),) = self._outputs(last, batch, self._precision)
                vectors = _checked(output, *batch["input_ids"].shape).to("cpu", dtype).contiguous()
                array = vectors.view(torch.from_numpy(np.empty(0, form.numpy)).dtype).numpy()
                for i, row in zip(some, array, strict=True):
                    file.seek(int(offsets[i]) * form.token_bytes)
                    file.write(row[: lengths[i]].data)
            file.flush()
            os.fsync(file.fileno())  # a machine that crashed would leave zeros

    def _batch(self, examples: Examples, some: Sequence[int]) -> Batch:
        batch = self._task.collate(examples.dataset.__getitems__(list(some)))
        return {name: value.to(self._model.device) for name, value in batch.items()}

    def _outputs(
        self, layers: Sequence[Module], batch: Batch, precision: str
    ) -> list[tuple[int, Any]]:
        """Compute up to the last of some layers; return what each call of one of them gave."""
        found: list[tuple[int, Any]] = []

        def note(place: int, _: Module, __: object, output: Any) -> None:
            found.append((place, output))
            if place == len(layers) - 1:
                raise _DoneError

        hooks = [x.register_forward_hook(partial(note, i)) for i, x in enumerate(layers)]
        in_precision = autocast(self._model.device, precision)
        with _mode(self._model, training=False), torch.no_grad(), in_precision:
            try:
                self._task.forward(self._model, batch)
            except _DoneError:
                pass
            finally:
                for hook in hooks:
                    hook.remove()
        return found

    def _compare(self, batch: Batch, alone: Sequence[Tensor], form: _Form) -> None:
        """Train on a batch with and without the layers.

        It is compared in float32 and in training mode, with the same dropout: so it shows layers
        that read padding, are no sequence, or have dropout left.

        Args:
            batch: of some examples.
            alone: what the last of the layers gave of each of them, [tokens, width].
            form: what they give.

        Raises:
            _UnfitError: where that is not the same.
        """
        found: list[Tensor] = []
        hook = self._layers[-1].register_forward_hook(
            lambda _, __, out: found.append(_vectors(out))
        )
        with _mode(self._model, training=True):
            try:
                plain = self._seeded(batch)
            finally:
                hook.remove()
            together = _checked(found[0], *batch["input_ids"].shape)
            if together.requires_grad:
                raise _UnfitError("what is before them is trained")
            kept = torch.zeros_like(together)
            for i, vectors in enumerate(alone):
                same, size = together[i, : len(vectors)], vectors.norm(dim=-1)
                if ((same - vectors).norm(dim=-1) > _SAME * size).any():
                    raise _UnfitError("what they give of an example depends on its batch")
                kept[i, : len(vectors)] = same
            slot = _Slot()
            slot.given = kept
            _replace(self._layers, form, slot)
            try:
                given = self._seeded(batch)
            except Exception as error:  # of a model that takes more of its layers: any
                raise _UnfitError(f"{type(error).__name__}: {error}") from error
            finally:
                _restore(self._layers)
        for name, value in plain.items():
            if not torch.allclose(value.float(), given[name].float(), rtol=1e-4, atol=1e-6):
                raise _UnfitError("what is above them needs more of them, or they have dropout")

    def _seeded(self, batch: Batch) -> dict[str, Tensor]:
        device = self._model.device
        others = [] if device.type == "cpu" else [device]
        with torch.random.fork_rng(others, device_type=device.type):
            torch.manual_seed(0)
            outputs = self._task.forward(self._model, batch)
        return {name: value.detach() for name, value in outputs.items()}


class _DoneError(Exception):
    """What is above the frozen layers need not be computed."""


@contextmanager
def _mode(model: Module, *, training: bool) -> Iterator[None]:
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


def _vectors(output: Any) -> Tensor:
    """Return a layer's hidden states, [examples, tokens, width]."""
    vectors: Tensor = output[0] if isinstance(output, tuple) else output
    return vectors


def _checked(output: Any, examples: int, tokens: int) -> Tensor:
    """Return a layer's hidden states where they are one a token of the batch."""
    vectors = _vectors(output)
    shape = tuple(vectors.shape)
    if shape[:2] != (examples, tokens) or len(shape) != 3:
        raise _UnfitError(f"they give {shape} for {examples} examples of {tokens} tokens")
    return vectors


def _form_of(outputs: Sequence[tuple[int, Any]], layers: int) -> _Form:
    """Describe what the layers gave."""
    if [place for place, _ in outputs] != list(range(layers)):
        raise _UnfitError("they are not computed once each, one after the other")
    vectors = _vectors(outputs[-1][1])
    if vectors.dtype not in _NUMPY:
        raise _UnfitError(f"they give {vectors.dtype}")
    sizes = tuple(len(o) if isinstance(o, tuple) else 0 for _, o in outputs)
    return _Form(str(vectors.dtype), vectors.shape[-1], sizes)


class _Store:
    """Activations on disk, an entry a split.

    Args:
        folder: of all of them.
        most_bytes: that they may take together.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        from pipeline.common.disk_cache import Entries  # what serves a model has no copy of it

        self._entries = Entries(folder, most_bytes)

    def form(self, one: _Stored) -> _Form | None:
        """Return what is stored, and note that it is used; None where nothing is, or not all."""
        entry = self._entries.folder / one.key
        try:
            values = json.loads((entry / _ABOUT).read_text(encoding="utf-8"))
            form = _Form(values["dtype"], values["width"], tuple(values["tuples"]))
            if (entry / _VALUES).stat().st_size != one.tokens * form.token_bytes:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._entries.touch(one.key)
        return form

    def has_room(self, form: _Form, every: Sequence[_Stored], missing: Sequence[_Stored]) -> bool:
        """Whether all that is wanted may lie here; says so in the log where not."""
        total, new = (
            sum({one.key: one.tokens * form.token_bytes for one in some}.values())
            for some in (every, missing)
        )
        folder, most = self._entries.folder, self._entries.most_bytes
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if total <= most and new <= free * _FREE_SHARE:
            self._entries.tidy({one.key for one in every}, new)
            return True
        log.info(
            "the frozen layers are computed each time: to store them takes %d MB, of which %d are "
            "new; allowed are %d, and a quarter of the %d MB that are free",
            *(n // 1_000_000 for n in (total, new, most, free)),
        )
        return False

    def make(self, one: _Stored, form: _Form, maker: _Maker, examples: Examples) -> bool:
        """Compute what is missing; return False where another process just did."""
        with self._entries.alone(one.key):
            if self.form(one) is not None:
                return False
            self._entries.remove(one.key)  # one that is not whole
            with self._entries.put(one.key) as path:
                maker.write(examples, form, path / _VALUES)
                (path / _ABOUT).write_text(json.dumps(asdict(form)), encoding="utf-8")
        return True

    def read(self, every: Sequence[_Stored]) -> _Form:
        """Map what is stored into memory."""
        form, *others = (self.form(one) for one in every)
        if form is None or any(other != form for other in others):
            raise OSError("what was stored is gone, or not alike")
        for one in every:
            path, shape = self._entries.folder / one.key / _VALUES, (one.tokens, form.width)
            one.values = np.memmap(path, form.numpy, mode="r", shape=shape)
        return form


def _common_key(
    model: PreTrainedModel, frozen: Sequence[Any], key_parts: Mapping[str, Any], precision: str
) -> str:
    """Digest all but the tokens that decides what the frozen layers give."""
    import transformers

    config = {k: v for k, v in model.config.to_dict().items() if k not in _NO_CONFIG}
    return _digest(
        [
            _FORMAT,
            f"{type(model).__module__}.{type(model).__qualname__}",
            config,
            model.config._attn_implementation,
            *frozen,
            model.device.type,
            precision,
            torch.get_float32_matmul_precision(),
            torch.__version__,
            transformers.__version__,
            dict(key_parts),
        ]
    )


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _inputs_digest(dataset: Dataset) -> str:
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


def _offsets(dataset: Dataset) -> Array:
    """Return where each example's tokens begin if they lie one after the other, [examples + 1]."""
    import pyarrow.compute as pc

    ids = dataset.select_columns("input_ids").with_format("arrow")[:].column(0)
    return np.cumsum([0, *pc.list_value_length(ids).to_numpy()], dtype=np.int64)


def _placed(examples: Examples, first: int) -> Examples:
    """Return a split, and what was computed of it, with the column of where examples are stored."""
    places = np.arange(first, first + len(examples.dataset))
    placed = copy.copy(examples)
    vars(placed)["dataset"] = examples.dataset.add_column(STORED, places)
    return placed
