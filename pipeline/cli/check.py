"""``check``: check the data before training."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.common import Verbs, add_format, add_overrides
from pipeline.common.text import say
from pipeline.jobs.place import composed

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.analysis.data_check import DataReport, Finding
_SHOWN = 20  # findings of a level that are printed
_ROWS = 3  # groups of rows of a finding
_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def add(verbs: Verbs) -> None:
    """Add ``check``."""
    verb = verbs.add_parser(
        "check",
        help="check the data: invalid rows, leaks, duplicates, label issues; --fix cleans it",
        description="Read every row of every split as a run would. Reports invalid rows by file "
        "and line, duplicates within and across splits, conflicting and rare labels, label issues, "
        "encoding errors, token counts and two baselines. Exits with 2 if a run could not start.",
    )
    add_overrides(verb, "as for train: data.train=…, task=chat")
    verb.add_argument(
        "--fix",
        type=Path,
        metavar="OUT",
        help="write a cleaned copy of the files to the new folder OUT",
    )
    add_format(verb, ("table", "json", "html"))
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.analysis.data_check import inspect_data
    from pipeline.config.compose import without_hydra
    from pipeline.config.experiment import validate

    experiment = validate(without_hydra(composed(options.overrides)))
    if options.fix is not None:
        from pipeline.analysis.data_check.fix import CHANGES, write_cleaned

        counts = write_cleaned(experiment, options.fix)
        for change, count in counts.most_common():
            say(f"{count} rows {change}")
        say(f"{options.fix}: cleaned copy; {options.fix / CHANGES} lists every change")
        return 0
    report = inspect_data(experiment)
    if options.format == "json":
        print(json.dumps(report.as_tree(), indent=1))
    elif options.format == "html":
        from pipeline.analysis.report import check_page

        print(check_page(report, experiment.data.title))
    else:
        from pipeline.common.terminal import console

        _show(report, console())
    return 2 if report.of("error") else 0


def _show(report: DataReport, console: Console) -> None:
    from rich.text import Text

    from pipeline.analysis.data_check.report import LEVELS
    from pipeline.common.tables import as_rich
    from pipeline.common.text import printable

    for table in (report.labels, report.tokens, report.scores):
        if table.rows:
            console.print(as_rich(table))
    for level in LEVELS:
        found = report.of(level)
        for finding in found[:_SHOWN]:
            line = Text(f"{level}: ", style=_COLOURS[level])
            line.append(printable(finding.message), style="default")
            if finding.rows:
                line.append(printable(f" [{_places(finding)}]"), style="dim")
            console.print(line, soft_wrap=True)
        if len(found) > _SHOWN:
            console.print(f"… and {len(found) - _SHOWN} more {level}s (--format json lists all)")
    console.print(report.summary, highlight=False)


def _places(finding: Finding) -> str:
    """Return the first rows of a finding, and of each group the first ones."""
    groups = [
        ", ".join(group[:_ROWS]) + (", …" if len(group) > _ROWS else "")
        for group in finding.rows[:_ROWS]
    ]
    return "; ".join([*groups, *(["…"] if finding.count > _ROWS else [])])
