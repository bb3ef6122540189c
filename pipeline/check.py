"""Look over the rows of every split as the task and the model's tokenizer see them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data import count_labels, load_splits, read_split
from pipeline.data.sources import SPLITS
from pipeline.errors import DataError
from pipeline.models import find_checkpoint
from pipeline.tasks import get_task
from pipeline.tasks.parts.batches import IGNORED
from pipeline.tasks.parts.writing import WritingTask
from pipeline.tracking.tables import Cell, Table

if TYPE_CHECKING:
    from pipeline.config import Experiment
    from pipeline.tasks.base import Examples, Task

_WHOLE = 2**30  # tokens: longer than any row
COLUMNS = ("split", "rows", "median", "p95", "longest", "tokens", "too long", "trained", "idle")


@dataclass(frozen=True)
class Report:
    """What was found; a run starts in spite of warnings, but not of problems."""

    table: Table
    problems: Sequence[str]
    warnings: Sequence[str]


def check_data(experiment: Experiment) -> Report:
    """Read every row that the config names, those of a test file too.

    The table has a line for each file, as it was given: its rows; the tokens of a row with its
    target (median, 95th percentile, longest) and of all; the rows that are longer than the model
    may read. Where targets are texts, also the tokens that are trained on, and the rows that are
    idle, without a single one within `training.max_length`.

    Raises:
        ConfigError: for settings that no rows could fit.
        ModelError: for a model that is not there or cannot do the task.
    """
    shape = get_task(experiment.task).shape(experiment.task, experiment.data)
    problems: list[str] = []
    read = {split: read_split(shape, split, lambda e: problems.append(str(e))) for split in SPLITS}
    found = {split: rows for split, rows in read.items() if rows is not None}
    warnings: list[str] = []
    if not problems:
        try:
            warnings += load_splits(shape, with_test=True).warnings
        except DataError as error:
            problems.append(str(error))
    counts = count_labels(list(found.values()))
    task = _task(experiment, counts, experiment.training.max_length)
    task.check()
    whole = _task(experiment, counts, _WHOLE)
    lines = []
    for split, rows in found.items():
        warnings += task.warnings(rows)
        try:
            lines.append(_line(split, task, whole.encode(rows), task.encode(rows)))
        except DataError as error:
            problems.append(f"{split} split, {error}")
    return Report(Table(COLUMNS, lines), problems, list(dict.fromkeys(warnings)))


def _task(experiment: Experiment, counts: Mapping[str, int], max_length: int) -> Task[Any]:
    checkpoint = find_checkpoint(experiment.model)
    return get_task(experiment.task)(experiment.task, checkpoint, max_length, counts)


def _line(split: str, task: Task[Any], whole: Examples, cut: Examples) -> list[Cell]:
    lengths = [len(ids) for ids in whole.dataset["input_ids"]]
    trained: int | None = None
    idle: int | None = None
    if isinstance(task, WritingTask):
        if task.is_encoder_decoder:
            targets = map(len, whole.dataset["labels"])
            lengths = [a + b for a, b in zip(lengths, targets, strict=True)]
        each = [sum(label != IGNORED for label in labels) for labels in cut.dataset["labels"]]
        trained, idle = sum(each), each.count(0)
    p95 = sorted(lengths)[int(0.95 * (len(lengths) - 1))]
    tokens = [int(statistics.median(lengths)), p95, max(lengths), sum(lengths)]
    return [split, len(whole.rows), *tokens, cut.truncated, trained, idle]
