"""What the verbs share: options, help texts, tables."""

from __future__ import annotations

import argparse
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipeline.cli.hydra_flags import CONFIG_FLAGS, add_config_flags
from pipeline.common.errors import ConfigError
from pipeline.common.text import printable
from pipeline.common.text_format import DELIMITERS, PLAIN, QUOTING, TextFormat, check_delimiter

if TYPE_CHECKING:
    from pipeline.common.tables import Table

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

FORMATS = ("table", "csv", "json", "md")

# Help texts.
DRY_RUN = "check and show what would run; run and write nothing"
RUN_ID = "MLflow run id"
RUN_OR_FOLDER = "MLflow run id, or an exported folder"
STORE = "tracking.dir=… or tracking.uri=…"
STUDY = "name of a study, or a prefix of it"
STUDY_STORE = "tracking.dir=…, hydra.sweeper.storage=…"


def add_allow(verb: argparse.ArgumentParser) -> None:
    """Give a verb ``--allow``."""
    verb.add_argument(
        "--allow",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="let a record that is not your own name files in this folder, besides the working "
        "folder; repeatable",
    )


def add_limit(verb: argparse.ArgumentParser, what: str) -> None:
    """Add ``--limit``."""
    text = f"list at most N {what}; default %(default)s"
    verb.add_argument("--limit", type=int, default=50, metavar="N", help=text)


def add_format(verb: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    """Give a verb ``--format``."""
    verb.add_argument("--format", choices=formats, default="table", help="default: table")


def add_overrides(
    verb: argparse.ArgumentParser,
    text: str,
    metavar: str | None = None,
    nargs: str = "*",
    *,
    shown: bool = False,
) -> None:
    """Give a verb overrides, other words among them, and where the config is read."""
    add_config_flags(verb, shown=shown)
    # Without a default argparse calls them required where something else is missing.
    verb.add_argument("overrides", nargs=nargs, default=[], metavar=metavar, help=text)
    verb.set_defaults(composes=True)


def add_study(verb: argparse.ArgumentParser, text: str) -> None:
    """Give a verb the name of a study, and overrides that say where it is."""
    verb.add_argument("study", help=STUDY)
    add_overrides(verb, text)
    verb.set_defaults(words="studies")


def add_text_format(verb: argparse.ArgumentParser) -> None:
    """Give a verb what may be said of its input, if it is a text file: `text_format` reads it."""
    verb.add_argument(
        "--encoding", metavar="E", default=PLAIN.encoding, help="encoding of IN; default utf-8"
    )
    verb.add_argument(
        "--delimiter",
        metavar="D",
        help=f"of a csv or tsv: {', '.join(DELIMITERS)} or one character; default: comma of a csv, "
        "tab of a tsv",
    )
    verb.add_argument(
        "--quoting",
        choices=QUOTING,
        default=PLAIN.quoting,
        help="of a csv or tsv; none: quotes are characters like others; default: minimal",
    )


def text_format(options: argparse.Namespace) -> TextFormat:
    """Return what was said of the input.

    Raises:
        ConfigError: for a delimiter that cannot be one.
    """
    given = options.delimiter
    try:
        delimiter = None if given is None else check_delimiter(given)
    except ValueError as error:
        raise ConfigError(f"--delimiter {given!r}: {error}.") from error
    return TextFormat(options.encoding, delimiter, options.quoting)


def names_and_overrides(
    words: Sequence[str], keys: str | tuple[str, ...] = ""
) -> tuple[list[str], list[str]]:
    """Return the names and the overrides among words, each in their order.

    The keys are how an override begins, where a name may have a ``=`` too.
    """
    overrides = [word for word in words if "=" in word and word.startswith(keys)]
    return [word for word in words if word not in overrides], overrides


def at_most_one(names: Sequence[str], expected: str) -> str | None:
    """Return the only name, or None where there is none.

    Raises:
        ConfigError: for several names, saying what was expected.
    """
    if len(names) > 1:
        raise ConfigError(f"{' '.join(names)}: expected {expected}.")
    return names[0] if names else None


def options_of(verb: argparse.ArgumentParser) -> dict[str, str]:
    """Return a verb's options, by its help, each with what it takes: nothing, FILE, {a,b}."""
    found = {name: metavar for short, long, metavar in CONFIG_FLAGS for name in (short, long)}
    for line in re.findall(r"^  (-.+?)(?:  |$)", verb.format_help(), re.MULTILINE):
        names = line.split(", ")
        taken = names[-1].partition(" ")[2]
        found |= {name.partition(" ")[0]: taken for name in names}
    return found


def as_asked(options: argparse.Namespace) -> list[str]:
    """Return a search's overrides, ``--dry-run`` among them."""
    return [*options.overrides, *(["hydra.sweeper.dry_run=true"] if options.dry_run else [])]


def show_table(table: Table, style: str) -> int:
    """Print a table to stdout and its note to stderr."""
    from pipeline.common.tables import render

    print(render(table, style), end="")
    if table.note:
        print(f"tunewright: {printable(table.note)}", file=sys.stderr)
    return 0


def check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened at.

    Raises:
        ConfigError: saying why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--port {port}: not available ({error}); choose another port."
            ) from error
