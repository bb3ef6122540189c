"""The verb that looks over data before anything is trained: check."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pipeline.cli.common import add_format
from pipeline.untrusted import printable

if TYPE_CHECKING:
    from pipeline.check import Report
    from pipeline.cli.common import Verbs

_SHOWN = 20  # problems that are printed


def add_check(verbs: Verbs) -> None:
    """Add ``check``."""
    verb = verbs.add_parser(
        "check",
        help="read all rows as a run would, name each that is wrong, and count tokens",
        description="Read every row of every split as the task and the model's tokenizer see it. "
        "Each one that cannot be used is named with file and line; the tokens of the others are "
        "counted. The exit code is 2 where a run could not start.",
    )
    verb.add_argument("overrides", nargs="*", help="as train takes them: data.train=…, task=chat")
    add_format(verb, ("table", "json"))
    verb.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from pipeline.check import check_data
    from pipeline.compose import compose, hydra_app, without_hydra
    from pipeline.config import validate

    with hydra_app("train") as hydra:
        experiment = validate(without_hydra(compose(hydra, options.overrides)))
    report = check_data(experiment)
    print(_as_json(report) if options.format == "json" else _as_text(report), end="")
    return 2 if report.problems else 0


def _as_text(report: Report) -> str:
    from pipeline.tracking.tables import render

    lines = [f"error: {problem}" for problem in report.problems[:_SHOWN]]
    if len(report.problems) > _SHOWN:
        lines.append(f"… and {len(report.problems) - _SHOWN} more (--format json lists all)")
    lines += [f"warning: {warning}" for warning in report.warnings]
    found = f"{len(report.problems)} errors, {len(report.warnings)} warnings"
    table = render(report.table, "table") if report.table.rows else ""
    return table + "".join(f"{printable(line)}\n" for line in [*lines, found])


def _as_json(report: Report) -> str:
    rows = [dict(zip(report.table.columns, row, strict=True)) for row in report.table.rows]
    content = {"splits": rows, "errors": report.problems, "warnings": report.warnings}
    return json.dumps(content, indent=1) + "\n"
