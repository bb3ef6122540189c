"""Weights are read once per process: each trial gets a pristine copy."""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.common.session import session
from pipeline.models.transformers_parts import drawn, unmark

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


class Weights:
    """Keeps the last model that was read, unchanged, and hands out copies.

    A copy equals a model read at that moment, bit for bit: what the checkpoint lacks is drawn again
    from torch's generator, as reading does. It has modules, config and parameters of its own,
    so hooks, wrapped methods, frozen or replaced layers of one trial do not reach the next. Only
    its memory is used again: once the model is collected, the next copy is written there.

    The cached model costs no extra memory if its file is mapped (safetensors, not on Windows):
    processes share those pages. Else it costs the weights once more.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._refused: object = None  # key of a model that has to be read each time
        # Of all models that were read, keys and the parameters that were drawn.
        self._known: list[tuple[object, list[str]]] = []
        self._model: PreTrainedModel | None = None
        self._memory: dict[str, Tensor] = {}  # of the last copy that is gone, by parameter

    def has(self, key: object) -> bool:
        """Whether this model was read by this process, kept or not."""
        return any(key == known for known, _ in self._known)

    def drawn(self, key: object) -> list[str]:
        """Return the parameters that a model lacked, by name; none of one that was not read."""
        return next((names for known, names in self._known if known == key), [])

    def load(self, key: object, read: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """Return a model in the host's memory for the caller's exclusive use.

        Keys are equal if ``read`` would return the same model except for random weights.
        """
        if key == self._refused:
            return read()
        if self._model is None or key != self._key:
            self._key = self._model = self._refused = None  # first: there may be no room for two
            self._memory = {}
            return self._read(key, read)
        _draw(self._model)
        return _copy(self._model, self._memory)

    def _read(self, key: object, read: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """Read a model; cache it only if drawing again reproduces it and the generator's state."""
        import torch

        before = torch.get_rng_state()
        model = read()
        self._known.append((key, drawn(model)))
        after = torch.get_rng_state()
        memory: dict[str, Tensor] = {}
        copied = _copy(model, memory)
        torch.set_rng_state(before)
        _draw(model)
        if _equal(model, copied) and torch.equal(torch.get_rng_state(), after):
            self._key, self._model, self._memory = key, model, memory
        else:
            self._refused = key
            log.info(
                "%s is read again for each run: its head is initialised differently", type(model)
            )
        torch.set_rng_state(after)
        return copied


def _draw(model: PreTrainedModel) -> None:
    """Draw the weights that were not read, in the order and by the rules of `from_pretrained`.

    transformers marks parameters that were read, and does not draw those.
    """
    unmark(model)
    model.initialize_weights()


def _copy(model: PreTrainedModel, memory: dict[str, Tensor]) -> PreTrainedModel:
    """Copy a model into free or new memory, which is reclaimed when the copy is collected."""
    import torch

    copies: dict[str, Parameter] = {}
    made: dict[int, Any] = {}  # what deepcopy uses instead of copying
    for name, parameter in model.named_parameters():
        place = memory.pop(name, None)
        if place is None or _layout(place) != _layout(parameter):
            place = torch.empty_like(parameter)
        place.copy_(parameter.detach())
        copies[name] = torch.nn.Parameter(place, parameter.requires_grad)
        copies[name].__dict__.update(parameter.__dict__)
        made[id(parameter)] = copies[name]
    copied = copy.deepcopy(model, made)
    addresses = {name: parameter.data_ptr() for name, parameter in copies.items()}
    weakref.finalize(copied, _take_back, memory, copies, addresses).atexit = False
    return copied


def _take_back(
    memory: dict[str, Tensor], copies: Mapping[str, Parameter], addresses: Mapping[str, int]
) -> None:
    """Keep the memory of a copy that is gone, but none that a trial put in its place."""
    for name, parameter in copies.items():
        if parameter.data_ptr() == addresses[name]:
            memory[name] = parameter.data


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def _equal(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    import torch

    def tensors(of: PreTrainedModel) -> list[Tensor]:
        return [*of.parameters(), *of.buffers()]

    return all(torch.equal(a, b) for a, b in zip(tensors(model), tensors(other), strict=True))


def weights() -> Weights:
    """Return what keeps the weights of this process."""
    return session().kept(Weights, Weights)
