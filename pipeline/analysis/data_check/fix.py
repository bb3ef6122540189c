"""A cleaned copy of the files, and a list of all changes."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.analysis.data_check.corpus import Corpus, repeated
from pipeline.analysis.data_check.duplicates import conflicting, nearly_repeated
from pipeline.analysis.data_check.labels import spellings
from pipeline.common.atomic import replacing
from pipeline.common.errors import ConfigError, DataError
from pipeline.common.tables import csv_cell
from pipeline.config.data import FilesConfig
from pipeline.config.experiment import Experiment
from pipeline.data import read_split
from pipeline.data.readers import read_records
from pipeline.data.shapes import column_of, replaced
from pipeline.data.sources import SPLITS, files_of, text_format
from pipeline.data.text_files import uncompressed
from pipeline.data.writers import SUFFIXES, Write, writer
from pipeline.training.prepare import shape_of

CHANGES = "changes.csv"


@dataclass
class Changes:
    """The changes by row id; a dropped row is not relabelled."""

    dropped: dict[str, str] = field(default_factory=dict)  # why
    labels: dict[str, str] = field(default_factory=dict)  # the new one

    def drop(self, row_id: str, why: str) -> None:
        """Leave a row out; the first reason is kept."""
        self.dropped.setdefault(row_id, why)


def write_cleaned(experiment: Experiment, out: Path) -> Counter[str]:
    """Write a cleaned copy of the config's files to a new folder, complete or not at all.

    It leaves out rows that cannot be used; copies of a text within a split; rows whose text has
    another label more often, or an equally frequent one; and training rows whose text is also
    (nearly) in another split. Labels that differ in case alone get the most frequent spelling.
    The copy is UTF-8 without a byte order mark.

    Returns:
        How many rows were changed for each reason.

    Raises:
        ConfigError: for data that is not in files.
        DataError: for a folder that already exists, or a file that cannot be read or written.
    """
    data = experiment.data
    if not isinstance(data, FilesConfig):
        raise ConfigError(
            f"--fix {out}: data.source={data.source}: only files can be copied; expected files."
        )
    if out.exists():
        raise DataError(f"--fix {out}: already exists; expected the name of a new folder.")
    shape = shape_of(experiment)
    # A record that cannot be used is skipped here, and missed when the copy is written.
    read = {split: read_split(data, shape, split, lambda _: None) for split in SPLITS}
    corpus = Corpus({split: rows for split, rows in read.items() if rows is not None})
    if not corpus.splits:
        raise DataError(f"--fix {out}: no row of {data.title} can be used.")
    # A split that is cut from a file must not have near copies in the rest of it.
    cut_from_train = data.validation is None or data.test is None
    changes = _changes(corpus, cut_from_train=cut_from_train)
    try:
        with replacing(out) as folder:
            folder.mkdir()
            return _write(data, shape.label_column, corpus, changes, folder)
    except OSError as error:
        raise DataError(f"--fix {out}: cannot be written: {error.strerror or error}.") from error


def _changes(corpus: Corpus, *, cut_from_train: bool) -> Changes:
    changes = Changes()
    usual = spellings(corpus)
    for i, names in enumerate(corpus.labels):
        if len(names) == 1 and names[0] in usual:
            changes.labels[corpus.ids[i]] = usual[names[0]]
    respelt = [tuple(sorted({usual.get(n, n) for n in names})) for names in corpus.labels]
    same = repeated(corpus.normal)
    for group in conflicting(respelt, same):
        (first, most), (_, second), *_ = Counter(respelt[i] for i in group).most_common()
        for i in group:
            if most == second or respelt[i] != first:
                changes.drop(corpus.ids[i], "its text has another label elsewhere")
    # The split that others are judged by keeps its rows: the last one, for a cut the first copy.
    order = {split: n for n, split in enumerate(reversed(list(corpus.splits)))}
    for groups, why in ((same, "a copy"), (nearly_repeated(corpus), "nearly a copy")):
        for group in groups:
            left = [i for i in group if corpus.ids[i] not in changes.dropped]
            left.sort(key=lambda i: (order[corpus.split[i]], i))
            for i in left[1:]:
                kept = left[0]
                is_leak = corpus.split[i] != corpus.split[kept]
                if why == "a copy" or is_leak or cut_from_train:
                    changes.drop(corpus.ids[i], f"{why} of {corpus.ids[kept]}")
    return changes


def _write(
    data: FilesConfig, label: str | None, corpus: Corpus, changes: Changes, folder: Path
) -> Counter[str]:
    counts: Counter[str] = Counter()
    known = {split: set(rows.ids) for split, rows in corpus.splits.items()}
    with (folder / CHANGES).open("w", encoding="utf-8", newline="") as stream:
        listed = csv.writer(stream, lineterminator="\n")
        listed.writerow(["split", "row", "change", "before", "after"])

        def note(split: str, row: str, change: str, before: Any = "", after: Any = "") -> None:
            listed.writerow(map(csv_cell, (split, row, change, before, after)))
            counts[change.partition(" of ")[0]] += 1

        every = (
            (split, *file) for split in corpus.splits for file in files_of(data, split).items()
        )
        for split, name, path in every:
            refused: list[DataError] = []
            out = _named(folder, path)
            with out.open("w", encoding="utf-8", newline="") as made:
                write: Write | None = None
                for line, values in read_records(path, text_format(data), refused.append):
                    row, record = f"{name}:{line}", dict(values)
                    if row not in known[split]:
                        note(split, row, "left out: it cannot be used")
                        continue
                    if row in changes.dropped:
                        note(split, row, f"left out: {changes.dropped[row]}")
                        continue
                    if label is not None and row in changes.labels:
                        new = changes.labels[row]
                        before = column_of(record, "data.label", label, row)
                        note(split, row, "label spelt as usual", before, new)
                        record = replaced(record, label, new)
                    write = write or writer(out, made, list(record))
                    write(record)
            if write is None:  # of a file without rows nothing can be trained
                out.unlink()
            for error in refused:
                note(split, "", "left out: it cannot be used", str(error))
    return counts


def _named(folder: Path, path: Path) -> Path:
    """Return a name for the copy; files of one name in several folders get a number."""
    plain = uncompressed(path)
    suffix = plain.suffix.lower() if plain.suffix.lower() in SUFFIXES else SUFFIXES[0]
    names = (f"{plain.stem}{n or ''}{suffix}" for n in count())
    return next(folder / name for name in names if not (folder / name).exists())
