"""Pages of HTML, which a notebook shows inline; and what it shows of runs and studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import DiskError
from pipeline.common.html import note
from pipeline.common.tables import Table, render
from pipeline.common.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.analysis.data_check import DataReport

_HEIGHT = "40rem"  # of a page in a notebook; it scrolls


@dataclass(frozen=True)
class Report:
    """A page: shown in a notebook, saved as one file, or as text by ``str()``."""

    title: str
    html: str = field(repr=False)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the page into a file, which a browser opens without a network.

        Raises:
            DiskError: where it cannot be written.
        """
        file = Path(path)
        try:
            file.write_text(self.html, encoding="utf-8")
        except OSError as error:
            raise DiskError(f"{file}: cannot be written: {error.strerror or error}.") from error
        return file

    def __str__(self) -> str:
        return self.html

    def _repr_html_(self) -> str:
        """Return a frame, so that the page's style stays its own; its script sorts tables."""
        known = {
            "sandbox": "allow-scripts",
            "style": f"border: 0; height: {_HEIGHT}; width: 100%",
            "title": self.title,
            "srcdoc": self.html,
        }
        said = " ".join(f'{name}="{escape(value)}"' for name, value in known.items())
        return f"<iframe {said}></iframe>"


@dataclass(frozen=True)
class Inspection(Report):
    """What there is to say of an experiment's data, as ``tunewright check`` says it."""

    _found: DataReport = field(repr=False)

    @property
    def findings(self) -> pd.DataFrame:
        """What is wrong, odd or good to know: level, kind, message and count, the worst first."""
        from pipeline.analysis.data_check.report import LEVELS

        found = [f for level in LEVELS for f in self._found.of(level)]
        columns = ("level", "kind", "message", "count")
        return as_frame(Table(columns, [[f.level, f.kind, f.message, f.count] for f in found]))

    @property
    def labels(self) -> pd.DataFrame:
        """How often each label is, by split; empty for tasks without."""
        return as_frame(self._found.labels)

    @property
    def tokens(self) -> pd.DataFrame:
        """How long the inputs of each split are, in tokens."""
        return as_frame(self._found.tokens)

    @property
    def baselines(self) -> pd.DataFrame:
        """What baselines without a language model score; empty where no run could start."""
        return as_frame(self._found.scores)


def as_frame(table: Table) -> pd.DataFrame:
    """Return a table as pandas has it."""
    import pandas as pd

    return pd.DataFrame(table.records(), columns=list(table.columns))


def card(name: str, facts: Sequence[str], table: Table) -> str:
    """Return what a notebook shows of a run or a study: its name, some facts and a table."""
    lines = [f"<strong>{escape(printable(name))}</strong>"]
    lines += [escape(printable(fact)) for fact in facts if fact]
    return f"<p>{'<br/>'.join(lines)}</p>\n{render(table, 'html')}{note(table.note)}"
