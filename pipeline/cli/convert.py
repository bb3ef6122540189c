"""The verb that turns a file of conversations into another layout: convert."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError, listing
from pipeline.common.text import printable

if TYPE_CHECKING:
    from pipeline.cli.common import Verbs

LAYOUTS = "messages, contents, sharegpt, alpaca, prompt_completion, source_target or text_label"


def add_convert(verbs: Verbs) -> None:
    """Add ``convert``."""
    verb = verbs.add_parser(
        "convert",
        help="write a file of conversations in another layout: OpenAI's, Vertex AI's, alpaca …",
        description="Read a csv, tsv, json, jsonl, parquet or arrow file of conversations and "
        "write them in another layout. What the layout cannot carry is refused, with file and "
        "line; OUT is there whole or not at all. docs/formats.md shows the layouts.",
    )
    verb.add_argument("path", metavar="IN", type=Path, help="the file to read")
    verb.add_argument(
        "out", metavar="OUT", type=Path, help=".jsonl; or .csv for source_target and text_label"
    )
    verb.add_argument("--to", required=True, metavar="LAYOUT", help=LAYOUTS)
    verb.add_argument(
        "--from",
        dest="source",
        metavar="LAYOUT",
        help="one of these, or squad; default: told by the keys of the first record",
    )
    for side, names in (("input", "source or text"), ("target", "target or label")):
        verb.add_argument(
            f"--{side}-column",
            metavar="C",
            help=f"name of the column {names}: of IN, or of OUT where IN has no such columns",
        )
    verb.add_argument("--encoding", metavar="E", default="utf-8", help="of IN; default utf-8")
    verb.add_argument("--force", action="store_true", help="replace OUT where it is there")
    verb.set_defaults(run=_convert, overrides=[])


def _convert(options: argparse.Namespace) -> int:
    from pipeline.data.convert import Columns, convert

    if options.overrides:
        raise ConfigError(f"convert: {' '.join(options.overrides)}: expected IN and OUT only.")
    done = convert(
        options.path,
        options.out,
        options.to,
        source=options.source,
        columns=Columns(options.input_column, options.target_column),
        encoding=options.encoding,
        force=options.force,
    )
    rows = f"{done.rows:,} {'row' if done.rows == 1 else 'rows'}"
    left_out = f"; left out: {listing(done.left_out)}" if done.left_out else ""
    print(printable(f"{options.out}: {rows}, from {done.source} to {done.target}{left_out}"))
    return 0
