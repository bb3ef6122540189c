"""The command line: the list of verbs, errors and exit codes. Imports nothing heavy.

A verb is a module with ``add``, which defines its parser; it imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline import __version__
from pipeline.api.guest import own_process, quiet_libraries
from pipeline.cli import (
    best,
    check,
    compare,
    completion,
    confirm,
    convert,
    diff,
    doctor,
    export,
    plan,
    predict,
    push,
    register,
    report,
    rerun,
    resume,
    retry,
    runs,
    serve_tuning,
    soup,
    study,
    sweep,
    train,
    ui,
)
from pipeline.cli import list as list_
from pipeline.cli.common import options_of
from pipeline.cli.hydra_flags import config_flags
from pipeline.common.errors import (
    AGAIN,
    Stopped,
    TunewrightError,
    did_you_mean,
    is_interrupted,
    machine_faults_named,
)
from pipeline.common.process import process_start
from pipeline.common.secrets import masked_message
from pipeline.common.text import printable
from pipeline.common.timing import ledger
from pipeline.config.flags import reading_by

DESCRIPTION = """\
Fine-tune language models and search their hyperparameters.

Overrides are Hydra's: key=value, group=option. With -m, or in a sweep, a key may take several
values: a,b,c · choice(a,b) · range(1,4) · interval(0,1) · tag(log,interval(1e-5,1e-3)).
`tunewright VERB --help` explains a verb; `tunewright train --cfg job` prints every key.
"""

VERBS = (  # as --help lists them
    train,
    sweep,
    plan,
    study,
    confirm,
    soup,
    resume,
    rerun,
    best,
    compare,
    runs,
    diff,
    export,
    report,
    retry,
    doctor,
    check,
    register,
    push,
    predict,
    serve_tuning,
    convert,
    list_,
    ui,
    completion,
)


def entry_point() -> None:
    """Run the command line and leave with its exit code."""
    code = main(sys.argv[1:], began=process_start())
    gc.freeze()  # else Python looks through all that torch and MLflow made before it ends, for 2 s
    sys.exit(code)


def main(argv: Sequence[str], began: float | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments, without the program's name.
        began: when, as of `time.time`; default: now.

    Returns:
        0 for success; 1 if too many trials of a sweep failed, diff found a difference, rerun
        --verify gave the verdict *different*, or doctor left something to repair; 2 for an error
        that the user can fix; 130 for a command that was stopped.
    """
    ledger().restart(began or time.time())
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        hint = _meant(options.parser, unknown[0])
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    options.overrides += rest  # argparse stops at the first option: a=1 -m b=2
    quiet_libraries()
    logging.raiseExceptions = False  # else a log file on a full disk is a traceback a line
    try:
        stops, faults = _terminated_as_interrupted(), machine_faults_named(AGAIN)
        with own_process(), stops, faults, reading_by(config_flags(options)):
            return int(options.run(options))
    except TunewrightError as error:
        said = map(printable, masked_message(str(error)).splitlines())  # it may quote a record
        print("tunewright:", "\n".join(said), file=sys.stderr)
        return error.exit_code
    except BaseException as stop:
        if not is_interrupted(stop):
            raise
        how = str(stop) if isinstance(stop, Stopped) else ""
        print(f"tunewright: stopped. {how}".rstrip(), file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunewright",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tunewright {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    for one in verbs.choices.values():
        one.set_defaults(parser=one)
    return parser


def _meant(verb: argparse.ArgumentParser, unknown: str) -> str:
    """Return a hint for an option that a verb has not."""
    name, equals, _ = unknown.partition("=")
    if near := did_you_mean(name, options_of(verb)):
        return f".{near}"
    return f". Overrides have no dashes: {unknown.lstrip('-')}" if equals else ""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: records are closed, nothing stays running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
