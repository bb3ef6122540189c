"""A trained model is written, read again, and must answer as it did in memory."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.common.errors import ModelError
from pipeline.common.private import make_folder
from pipeline.config.experiment import Experiment
from pipeline.serving.description import describe, write
from pipeline.serving.predictor import ADAPTER_FOLDER, Interface, Predictor
from pipeline.tasks import get_task
from pipeline.tasks.base import PADDING, Array

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline.data import Rows
    from pipeline.tasks.base import Examples, Outputs, Task

CHECKED_ROWS = 8
TOLERANCE = 1e-3  # of a number, relative and absolute: float32 may add up in another order


@dataclass(frozen=True)
class Answers:
    """What a model says of rows."""

    rows: Rows
    examples: Examples
    outputs: Outputs  # raw
    decoded: Mapping[str, Sequence[Any]]


@contextmanager
def save_checked(
    folder: Path,
    model: PreTrainedModel,
    task: Task[Any],
    experiment: Experiment,
    examples: Examples,
    outputs: Outputs,
) -> Iterator[Interface]:
    """Write a model, read it again and compare its answers; an adapter merged, and alone as well.

    Args:
        folder: a new one, which is there until the context ends.
        model: the trained one; it cannot be used further.
        task: that it was trained for.
        experiment: that it was trained by.
        examples: of a split with targets; the first rows of it that count are asked about.
        outputs: of the model on them.

    Yields:
        What the model is asked and what it answers.

    Raises:
        ModelError: naming the first row whose answer is another when the model is read again.
    """
    from pipeline.models.adapters import is_adapter, load_options

    has_adapter, options = is_adapter(model), load_options(experiment.adapter)
    rows = task.to_answer(_checked_rows(examples, outputs))
    try:
        trained = _answers(model, task, experiment, rows)
        plain = save(folder, model, task, experiment)
        # Merging rounds weights in 4 bits anew, which is no fault of what is read again.
        expected = _answers(plain, task, experiment, rows) if options else trained
        if not options:
            plain.to("cpu")  # room for the next ones
        if has_adapter:
            _check_adapter(folder, trained, task, experiment)
        yield _check(folder, expected, is_merged=has_adapter)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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

    make_folder(folder)
    if is_adapter(model):
        save_adapter(model, folder / ADAPTER_FOLDER, task.checkpoint.name)
    plain = merged(model)
    task.teach_end(plain)
    plain.save_pretrained(folder)
    task.checkpoint.tokenizer.save_pretrained(folder)  # a chat template that was given is its own
    write(describe(experiment, task.targets), folder)
    for weights in folder.rglob("*.safetensors"):
        # safetensors writes for the owner alone; a shared store shares its weights too.
        shutil.copymode(folder / "config.json", weights)
    return plain


def _checked_rows(examples: Examples, outputs: Outputs) -> Rows:
    """Return the first rows that count: of others a task may find nothing to compare."""
    weights = outputs["weight"].tolist()
    counted = [row for row, weight in zip(examples.row, weights, strict=True) if weight > 0]
    return examples.rows.take(list(dict.fromkeys(counted))[:CHECKED_ROWS])


def _answers(
    model: PreTrainedModel, task: Task[Any], experiment: Experiment, rows: Rows
) -> Answers:
    """Ask a model in memory about rows, with the settings of prediction but in float32."""
    config = task.for_prediction(task.config)
    kind = get_task(config)
    asked = kind(config, task.checkpoint, task.max_length, task.targets)
    predictor = Predictor(asked, kind.shape(config, experiment.data.columns), model, "float32")
    return _ask(predictor, rows)


def _check_adapter(
    folder: Path, expected: Answers, task: Task[Any], experiment: Experiment
) -> None:
    """Put the saved adapter over the model that training began with, and ask that likewise."""
    import torch

    from pipeline.models.adapters import load_options

    with torch.random.fork_rng():
        torch.manual_seed(experiment.seed)  # a new model's weights are drawn, not read
        base = task.load_model(**load_options(experiment.adapter))
    predictor = Predictor.load(folder, base=base)
    _compare(expected, _ask(predictor, expected.rows), "the saved adapter", may_tie=False)
    del predictor, base
    gc.collect()  # PEFT's models refer to themselves, and another one is about to be loaded


def _check(folder: Path, expected: Answers, *, is_merged: bool) -> Interface:
    """Read a model again and ask it likewise; an adapter merged since may turn a tie."""
    predictor = Predictor.load(folder)
    _compare(expected, _ask(predictor, expected.rows), "the saved model", may_tie=is_merged)
    return interface_of(predictor, expected.rows)


def interface_of(predictor: Predictor, rows: Rows) -> Interface:
    """Return what a model is asked and what it answers, by its first row."""
    record = predictor.shape.record(rows, 0)
    return Interface(record, predictor.task.example(predictor.predict([record])[0]))


def _ask(predictor: Predictor, rows: Rows) -> Answers:
    examples, outputs = predictor.infer(rows, CHECKED_ROWS)
    return Answers(rows, examples, outputs, predictor.task.decode(examples, outputs))


def _compare(expected: Answers, found: Answers, what: str, *, may_tie: bool) -> None:
    """Refuse answers that are not the same.

    Merging changes a weight's last bits, by which the best of two equal words may be the other
    one, and so the rest of a written text: of one row, since the numbers are compared as well.
    """
    names = expected.examples.token_columns
    here, there = (
        list(zip(*(asked.examples.dataset[name][:] for name in names), strict=True))
        for asked in (expected, found)
    )
    if here != there:
        other = (i for i, (one, two) in enumerate(zip(here, there, strict=False)) if one != two)
        row = expected.examples.row[next(other, 0)]
        raise _differs(expected, what, row, "its tokenizer makes other tokens of the text")
    differing: dict[int, str] = {}
    for row, problem, is_number in _problems(expected, found):
        if is_number or not may_tie or differing.keys() - {row}:
            raise _differs(expected, what, row, problem)
        differing[row] = problem


def _problems(expected: Answers, found: Answers) -> Iterator[tuple[int, str, bool]]:
    """Yield each difference: its row, as text, and whether it is a number of the model's own."""
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
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _differs(expected: Answers, what: str, row: int, problem: str) -> ModelError:
    return ModelError(
        f"row {expected.rows.ids[row]}: {what} predicts differently from the trained one in "
        f"memory: {problem}. It is not kept: a saved model must predict the same."
    )
