"""``list``: the models, data sets, tasks and searches that there are."""

from __future__ import annotations

import argparse

from pipeline.cli.common import Verbs, add_format, show_table
from pipeline.cli.hydra_flags import add_config_flags
from pipeline.common.tables import Table


def add(verbs: Verbs) -> None:
    """Add ``list``."""
    from pipeline.config.menu import KINDS

    verb = verbs.add_parser(
        "list",
        help="list the models, data sets, tasks, sweeps … to choose from",
        description="List what there is to choose from, your own files in ./conf and ./sweeps "
        "among them, with a line on each.",
    )
    verb.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    add_config_flags(verb)
    add_format(verb)
    verb.set_defaults(run=_run, overrides=[])


def _run(options: argparse.Namespace) -> int:
    from pipeline.config.menu import KINDS, about
    from pipeline.config.menu import options as found

    group = KINDS[options.kind]
    how = f"{group}=" if group else "tunewright sweep "
    rows = [[f"{how}{name}", about(file)] for name, file in found(options.kind).items()]
    return show_table(Table(["choice", "about"], rows), options.format)
