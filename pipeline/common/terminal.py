"""The terminal, or a file that takes its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LINE_WIDTH = 240  # of tables that do not go to a terminal

_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


def console() -> Console:
    """Return what prints to standard output: lines in a file are not cut."""
    from rich.console import Console

    found = Console(quiet=_SILENT.get())
    return found if found.is_terminal else Console(width=LINE_WIDTH, quiet=_SILENT.get())


@contextmanager
def silent(is_silent: bool = True) -> Iterator[None]:
    """Have consoles that are made in here print nothing."""
    token = _SILENT.set(is_silent or _SILENT.get())
    try:
        yield
    finally:
        _SILENT.reset(token)
