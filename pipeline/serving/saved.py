"""A trained model is written, read again, and must answer as it did in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import Experiment
from pipeline.errors import ModelError
from pipeline.serving.description import describe, write
from pipeline.serving.predictor import ADAPTER_FOLDER, Interface, Predictor, for_prediction
from pipeline.tasks import get_task
from pipeline.tasks.base import PADDING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.data import Rows
    from pipeline.tasks.base import Examples, Outputs, Task

CHECKED_ROWS = 8
TOLERANCE = 1e-3  # of a number, relative and absolute: float32 may add up in another order

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Answers:
    """What a model says of rows."""

    rows: Rows
    examples: Examples
    outputs: Outputs  # raw
    decoded: Mapping[str, Sequence[Any]]


def answers(model: PreTrainedModel, task: Task[Any], experiment: Experiment, rows: Rows) -> Answers:
    """Ask a model in memory about the first of some rows, in float32 and as prediction does."""
    config = for_prediction(task.config)
    kind = get_task(config)
    asked = kind(config, task.checkpoint, task.max_length, task.label_counts)
    predictor = Predictor(asked, kind.shape(config, experiment.data), model, bfloat16=False)
    return _ask(predictor, rows.take(range(min(CHECKED_ROWS, len(rows)))))


def save(
    folder: Path, model: PreTrainedModel, task: Task[Any], experiment: Experiment
) -> PreTrainedModel:
    """Write a model into a new folder, with its tokenizer and a description.

    The layout is that of transformers' ``save_pretrained``. An adapter is merged into the weights,
    in place, and written alone as well.

    Returns:
        The plain model that was written.
    """
    from pipeline.models.adapters import is_adapter, merged, save_adapter

    folder.mkdir(parents=True, exist_ok=True)
    if is_adapter(model):
        save_adapter(model, folder / ADAPTER_FOLDER)
    plain = merged(model)
    plain.save_pretrained(folder)
    task.checkpoint.tokenizer.save_pretrained(folder)  # a chat template that was given is its own
    write(describe(experiment, dict(task.label_counts)), folder)
    return plain


def check(folder: Path, expected: Answers, *, is_merged: bool = False) -> Interface:
    """Read a model again and ask it what it was asked in memory.

    Args:
        folder: as `save` made it.
        expected: the answers from memory.
        is_merged: whether an adapter was added to the weights since, which may turn a tie.

    Returns:
        What it is asked and answers.

    Raises:
        ModelError: naming the first row whose answer is another.
    """
    predictor = Predictor.load(folder)
    _compare(expected, _ask(predictor, expected.rows), "the saved model", may_tie=is_merged)
    return predictor.interface(expected.rows)


def check_adapter(folder: Path, expected: Answers, base: PreTrainedModel) -> None:
    """Put the saved adapter over the model that training began with, and ask that likewise.

    Raises:
        ModelError: naming the first row whose answer is another.
    """
    predictor = Predictor.load(folder, base=base)
    _compare(expected, _ask(predictor, expected.rows), "the saved adapter", may_tie=False)


def _ask(predictor: Predictor, rows: Rows) -> Answers:
    with _same_chance():
        examples, outputs = predictor.infer(rows, CHECKED_ROWS)
    return Answers(rows, examples, outputs, predictor.task.decode(examples, outputs))


@contextmanager
def _same_chance() -> Iterator[None]:
    """Draw the same where texts are sampled, and leave torch's generator as it is."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _compare(expected: Answers, found: Answers, what: str, *, may_tie: bool) -> None:
    """Refuse answers that are not the same.

    Merging changes a weight's last bits, by which the best of two equal words may be the other
    one, and so the rest of a written text: of one row, since the numbers are compared as well.
    """
    here, there = (asked.examples.dataset["input_ids"][:] for asked in (expected, found))
    if here != there:
        other = (i for i, (one, two) in enumerate(zip(here, there, strict=False)) if one != two)
        row = expected.examples.row[next(other, 0)]
        raise _differs(expected, what, row, "its tokenizer cuts the text into other tokens")
    differing: dict[int, str] = {}
    for row, problem, is_number in _problems(expected, found):
        if is_number or not may_tie or differing.keys() - {row}:
            raise _differs(expected, what, row, problem)
        differing[row] = problem


def _problems(expected: Answers, found: Answers) -> Iterator[tuple[int, str, bool]]:
    """Yield what differs: its row, in words, and whether it is a number of the model's own."""
    for name, here in expected.outputs.items():
        is_number = bool(np.issubdtype(here.dtype, np.floating))
        compare = _numbers if is_number else _choices
        for i, row in enumerate(expected.examples.row):
            problem = compare(here[i], found.outputs[name][i])
            if problem is not None:
                yield row, f"{name}: {problem}", is_number
    for name, values in expected.decoded.items():
        for row, (one, other) in enumerate(zip(values, found.decoded[name], strict=True)):
            if not _same(one, other):
                yield row, f"{name}: {one!r} in memory, {other!r} read again", False


def _numbers(here: Array, there: Array) -> str | None:
    if here.shape != there.shape:
        return f"{here.size} numbers in memory, {there.size} read again"
    if np.allclose(here, there, rtol=TOLERANCE, atol=TOLERANCE):
        return None
    most = float(np.max(np.abs(here - there)))
    return f"differs by up to {most:.3g}, expected at most {TOLERANCE:g}"


def _choices(here: Array, there: Array) -> str | None:
    one, other = (array[array != PADDING].tolist() for array in (here, there))
    return None if one == other else f"{one[:12]} in memory, {other[:12]} read again"


def _same(one: Any, other: Any) -> bool:
    """Whether two decoded values are the same, numbers nearly."""
    if isinstance(one, float):
        return bool(abs(one - other) <= TOLERANCE * max(1.0, abs(one)))
    if isinstance(one, dict):
        return set(one) == set(other) and all(_same(one[k], other[k]) for k in one)
    return bool(one == other)


def _differs(expected: Answers, what: str, row: int, problem: str) -> ModelError:
    return ModelError(
        f"row {expected.rows.ids[row]}: {what} does not answer as the trained one in memory: "
        f"{problem}. It is not kept: what is saved must predict the same."
    )
