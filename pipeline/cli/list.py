"""``list``: the models, data sets, tasks and searches that there are."""

from __future__ import annotations

import argparse

from pipeline.cli.common import Verbs, add_format, show_table
from pipeline.cli.hydra_flags import add_config_flags
from pipeline.common.tables import Table
from pipeline.config.menu import GROUPS, about, choices


def add(verbs: Verbs) -> None:
    """Add ``list``."""
    verb = verbs.add_parser(
        "list",
        help="list the models, data sets, tasks, sweeps … to choose from",
        description="List what there is to choose from, your own files in ./conf and ./sweeps "
        "among them, with a line on each.",
    )
    verb.add_argument("kind", metavar="KIND", choices=GROUPS, help=", ".join(GROUPS))
    add_config_flags(verb)
    add_format(verb)
    verb.set_defaults(run=_run, overrides=[], words="kinds")


def _run(options: argparse.Namespace) -> int:
    group = GROUPS[options.kind]
    how = f"{group}=" if group else "tunewright sweep "
    rows = [[f"{how}{name}", about(file)] for name, file in choices(options.kind).items()]
    return show_table(Table(["choice", "about"], rows), options.format)
