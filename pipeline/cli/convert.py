"""``convert``: a file of conversations in another format."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.cli.common import Verbs, add_text_format, text_format
from pipeline.common.errors import ConfigError, listing
from pipeline.common.text import say

LAYOUTS = (
    "messages, contents, sharegpt, alpaca, prompt_completion, source_target or text_label; of "
    "preferences preference, preference_openai or preference_sharegpt"
)


def add(verbs: Verbs) -> None:
    """Add ``convert``."""
    verb = verbs.add_parser(
        "convert",
        help="convert conversations between formats: OpenAI, Vertex AI, ShareGPT, Alpaca …",
        description="Read a csv, tsv, json, jsonl (.gz, .bz2, .xz, .zst too), parquet or arrow "
        "file of conversations or preferences and write them in another layout. Rows that it "
        "cannot represent are refused, with file and line. OUT is written atomically. "
        "docs/formats.md shows layouts.",
    )
    verb.add_argument("path", metavar="IN", type=Path, help="file to read")
    verb.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help=".jsonl file to write; .csv too for source_target and text_label",
    )
    verb.add_argument("--to", required=True, metavar="LAYOUT", help=LAYOUTS)
    verb.add_argument(
        "--from",
        dest="source",
        metavar="LAYOUT",
        help="one of these, or squad; default: detected from the first record's keys",
    )
    for side, names in (("input", "source or text"), ("target", "target or label")):
        verb.add_argument(
            f"--{side}-column",
            metavar="C",
            help=f"column to use as {names}, in IN or, if IN has no such column, in OUT",
        )
    add_text_format(verb)
    verb.add_argument("--force", action="store_true", help="replace OUT if it exists")
    verb.set_defaults(run=_run, overrides=[])


def _run(options: argparse.Namespace) -> int:
    from pipeline.data.convert import Columns, convert

    if options.overrides:
        raise ConfigError(f"convert: {' '.join(options.overrides)}: expected IN and OUT only.")
    done = convert(
        options.path,
        options.out,
        options.to,
        source=options.source,
        columns=Columns(options.input_column, options.target_column),
        text_format=text_format(options),
        force=options.force,
    )
    rows = f"{done.rows:,} {'row' if done.rows == 1 else 'rows'}"
    left_out = f"; left out: {listing(done.left_out)}" if done.left_out else ""
    say(f"{options.out}: {rows}, from {done.source} to {done.target}{left_out}")
    return 0
