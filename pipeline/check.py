"""Look over the rows of every split as the task and the model's tokenizer see them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data import count_labels, read_split
from pipeline.data.sources import SPLITS
from pipeline.errors import TunewrightError
from pipeline.models import find_checkpoint
from pipeline.prepared import splits_of
from pipeline.run import check, inspect
from pipeline.tasks import get_task
from pipeline.tasks.parts.batches import IGNORED
from pipeline.tasks.parts.writing import WritingTask
from pipeline.tracking.tables import Cell, Table

if TYPE_CHECKING:
    from pipeline.config import Experiment, TaskConfig
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
            check(experiment)
            inspect(experiment)
            warnings += splits_of(experiment).warnings
        except TunewrightError as error:
            problems.append(str(error))
    counts = count_labels(list(found.values()))
    task = _task(experiment, experiment.task, counts, experiment.training.max_length)
    whole = _task(experiment, task.uncut(experiment.task), counts, _WHOLE)
    lines = []
    for split, rows in found.items():
        try:
            cut = task.encode(rows)
            lines.append(_line(split, task, whole.encode(rows), cut))
            asked = task.encode(rows, training=True) if split == "train" else cut
        except TunewrightError as error:
            problems.append(f"{split} split, {error}")
        else:
            warnings += [*task.warnings(rows), *(f"{split}: {note}" for note in asked.notes)]
    return Report(Table(COLUMNS, lines), _unique(problems), _unique(warnings))


def _task(
    experiment: Experiment, config: TaskConfig, counts: Mapping[str, int], max_length: int
) -> Task[Any]:
    return get_task(config)(config, find_checkpoint(experiment.model), max_length, counts)


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


def _unique(lines: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(lines))
