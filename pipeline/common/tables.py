"""Tables, and one way to write them in each style: for terminals, programs, documents and pages.

Cells may be texts that somebody else wrote: control characters are written out in every style.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from pipeline.common.text import printable

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Cell = str | int | float | None

_FORMULA = ("=", "+", "-", "@")  # how a text begins that a spreadsheet computes
_MARKDOWN = re.compile(r"[\\|`*<\[]")  # what begins a cell, code, stress, HTML or a link
_WIDE = 1_000_000  # characters: wider than any table


@dataclass(frozen=True)
class Table:
    """Named columns, and a cell for each in every row; None is an empty one."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""  # for the reader, shown with the table
    left: Collection[str] | None = None  # columns to align left; None: those with a text in them

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Table:
        """Make a table of records with the same keys."""
        return cls(list(records[0]) if records else [], [list(one.values()) for one in records])

    def records(self) -> list[dict[str, Cell]]:
        """Return each row by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def render(table: Table, style: str) -> str:
    """Return a table as text that ends with its line, in one of `STYLES`.

    Raises:
        KeyError: for another style.
    """
    return STYLES[style](table)


def as_rich(table: Table, digits: str = "") -> RichTable:
    """Return a table as rich draws it, numbers to the right."""
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=None, pad_edge=False)
    for i, name in enumerate(table.columns):
        has_text = any(isinstance(row[i], str) for row in table.rows)
        is_left = has_text if table.left is None else name in table.left
        # As `Text`, since rich takes what is in brackets for its own markup.
        drawn.add_column(Text(printable(name)), justify="left" if is_left else "right")
    for row in table.rows:
        drawn.add_row(*(Text(_text(cell, digits)) for cell in row))
    return drawn


def csv_cell(cell: Cell) -> str:
    """Return a cell as text that is no formula to a spreadsheet."""
    is_formula = isinstance(cell, str) and cell.startswith(_FORMULA)
    return f"'{_text(cell)}" if is_formula else _text(cell)


def finite(value: object) -> object:
    """Return a value or a tree as JSON can hold it: None for what is infinite or not a number."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(cell: Cell, digits: str = "") -> str:
    if cell is None:
        return ""
    return format(cell, digits) if isinstance(cell, float) else printable(str(cell))


def _as_text(table: Table) -> str:
    """Align the columns; nothing is cut, so that ids can be copied."""
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=_WIDE, force_terminal=False, color_system=None)
    console.print(as_rich(table, ".6g"))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _as_csv(table: Table) -> str:
    """Write RFC 4180, no text of which is a formula to a spreadsheet."""
    text = io.StringIO()
    csv.writer(text).writerows(map(csv_cell, line) for line in (table.columns, *table.rows))
    return text.getvalue()


def _as_json(table: Table) -> str:
    """Write a list of objects; all beyond ASCII is escaped, control characters with it."""
    return json.dumps(finite(table.records()), indent=1, allow_nan=False) + "\n"


def _as_markdown(table: Table) -> str:
    lines = [[printable(c) for c in table.columns], ["---"] * len(table.columns)]
    lines += [[_text(cell, ".6g") for cell in row] for row in table.rows]
    cells = ((_MARKDOWN.sub(r"\\\g<0>", text) for text in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _as_html(table: Table) -> str:
    """Write an element for a page; nothing where there are no rows."""
    if not table.rows:
        return ""
    titles = "".join(f"<th>{escape(printable(name))}</th>" for name in table.columns)
    cells = ((f"<td>{escape(_text(cell, '.4g'))}</td>" for cell in row) for row in table.rows)
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    content = f"<thead><tr>{titles}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><table>{content}</table></div>\n'


STYLES: Mapping[str, Callable[[Table], str]] = {
    "table": _as_text,
    "csv": _as_csv,
    "json": _as_json,
    "md": _as_markdown,
    "html": _as_html,
}
