"""Tables and lines on the terminal, or in a file that takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as RichTable

from pipeline.common.text import printable

if TYPE_CHECKING:
    from pipeline.tracking.tables import Table

LINE_WIDTH = 240  # of tables that do not go to a terminal


def console() -> Console:
    """Return what prints to standard output: lines in a file are not cut."""
    found = Console()
    return found if found.is_terminal else Console(width=LINE_WIDTH)


def as_rich(table: Table) -> RichTable:
    """Return a table as rich draws it, numbers to the right."""
    drawn = RichTable(box=None, pad_edge=False)
    for i, name in enumerate(table.columns):
        is_text = any(isinstance(row[i], str) for row in table.rows)
        drawn.add_column(name, justify="left" if is_text else "right")
    for row in table.rows:
        drawn.add_row(*("" if cell is None else printable(str(cell)) for cell in row))
    return drawn
