"""The tokens of the rows: how many, how many are truncated, and how many are trained on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from pipeline.analysis.data_check.report import Finding, error_findings
from pipeline.common.errors import TunewrightError
from pipeline.common.tables import Cell, Table
from pipeline.config.experiment import Experiment
from pipeline.config.task import TaskConfig
from pipeline.data import Rows, Targets
from pipeline.models import find_checkpoint
from pipeline.models.batches import IGNORED
from pipeline.tasks import get_task
from pipeline.tasks.base import Examples, Task
from pipeline.tasks.parts.writing import WritingTask

_WHOLE = 2**30  # tokens: longer than any row
_MUCH = 0.05  # of the rows: so many that are cut are a warning
COLUMNS = (
    *("source", "rows read", "median", "p95", "longest", "tokens", "too long", "cut"),
    *("trained", "a row", "idle"),
)


def token_findings(
    experiment: Experiment, splits: Mapping[str, Rows], targets: Targets
) -> tuple[Table, list[Finding]]:
    """Encode all rows, as they are and as the model would see them.

    Args:
        experiment: names model and task.
        splits: the rows.
        targets: of the rows.

    Returns:
        What is odd, after a table with a line a split as it was read, before others were cut off it
        and rows left out: its rows; the tokens of a row with its target (median, 95th percentile,
        longest) and of all; the rows that are longer than the model may read, and their share.
        Where targets are texts, also the tokens that are trained on, of all and a row, and the rows
        that are idle, without a single one within ``training.max_length``.
    """
    task = _task(experiment, experiment.task, targets, experiment.training.max_length)
    try:
        task.check()
    except TunewrightError as error:  # each row would be refused for it
        return Table(COLUMNS, []), error_findings([str(error)])
    whole = _task(experiment, task.uncut(experiment.task), targets, _WHOLE)
    lines: list[list[Cell]] = []
    findings: list[Finding] = []
    for split, rows in splits.items():
        try:
            cut = task.encode(rows)
            line = _line(split, task, whole.encode(rows), cut)
            asked = task.encode(rows, training=True) if split == "train" else cut
        except TunewrightError as error:
            findings.append(Finding("error", "row", f"{split} split, {error}"))
            continue
        lines.append(line)
        notes = [*task.warnings(rows), *(f"{split}: {note}" for note in task.notes(asked))]
        findings += [Finding("warning", "row", note) for note in notes]
        share = cut.truncated / len(rows)
        if share > _MUCH:
            message = (
                f"{split}: {cut.truncated} of {len(rows)} rows ({share:.1%}) are longer than "
                f"training.max_length={experiment.training.max_length}, and 95 % have at most "
                f"{line[3]} tokens; task.long_rows={experiment.task.long_rows}"
            )
            findings.append(Finding("warning", "length", message))
    return Table(COLUMNS, lines), findings


def _task(
    experiment: Experiment, config: TaskConfig, targets: Targets, max_length: int
) -> Task[Any]:
    return get_task(config)(config, find_checkpoint(experiment.model), max_length, targets)


def _line(split: str, task: Task[Any], whole: Examples, cut: Examples) -> list[Cell]:
    read = zip(*(whole.dataset[name][:] for name in whole.token_columns), strict=True)
    sides = [[len(ids) for ids in of] for of in read]  # of a pair whose texts are read apart, two
    lengths = [max(of) for of in sides]
    rows = len(whole.rows)
    targets: list[Cell] = [None, None, None]
    if isinstance(task, WritingTask):
        if task.is_encoder_decoder:
            sides = [
                [*of, len(more)] for of, more in zip(sides, whole.dataset["labels"], strict=True)
            ]
            lengths = [sum(of) for of in sides]
        names = [name for name in cut.dataset.column_names if name.endswith("labels")]
        both = zip(*(cut.dataset[name][:] for name in names), strict=True)
        each = [sum(label != IGNORED for labels in of for label in labels) for of in both]
        targets = [sum(each), round(sum(each) / rows, 1), each.count(0)]
    p95 = sorted(lengths)[int(0.95 * (len(lengths) - 1))]
    tokens = [int(statistics.median(lengths)), p95, max(lengths), sum(map(sum, sides))]
    return [split, rows, *tokens, cut.truncated, round(cut.truncated / rows, 4), *targets]
