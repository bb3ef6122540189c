"""The terminal, or a file that takes its place."""

from __future__ import annotations

from rich.console import Console

LINE_WIDTH = 240  # of tables that do not go to a terminal


def console() -> Console:
    """Return what prints to standard output: lines in a file are not cut."""
    found = Console()
    return found if found.is_terminal else Console(width=LINE_WIDTH)
