"""Conversion: a file of conversations, or preferences, in one layout becomes one in another."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.common.errors import ConfigError, DataError, at, did_you_mean, listing, quoted
from pipeline.common.text_format import PLAIN, TextFormat
from pipeline.data.layouts import COLUMNS, LAYOUTS, Layout, detect, layouts_with
from pipeline.data.preferences import PAIR_LAYOUTS, PairLayout, detect_pair
from pipeline.data.readers import read_records
from pipeline.data.rows import Record
from pipeline.data.writers import check_files, output_file, writer


class Columns(NamedTuple):
    """Names of the two columns of source_target and text_label; None is a layout's own name."""

    input: str | None = None
    target: str | None = None


OWN_NAMES = Columns()


class Converted(NamedTuple):
    """What was written, and which keys of the records were not part of the conversations."""

    rows: int
    source: str  # layout
    target: str
    left_out: tuple[str, ...]


def convert(
    path: Path,
    out: Path,
    target: str,
    *,
    source: str | None = None,
    columns: Columns = OWN_NAMES,
    text_format: TextFormat = PLAIN,
    force: bool = False,
) -> Converted:
    """Write a file's conversations in another layout; the new file is complete or absent.

    Args:
        path: a file of any format that `pipeline.data.readers` knows.
        out: a jsonl file, or a csv file of a layout of two columns.
        target: the layout to write.
        source: the layout to read; that of the first record by default.
        columns: names of the two columns in the file that is read or, if that has other keys, in
            the one that is written.
        text_format: of the file that is read, if it is text.
        force: replace an existing file.

    Raises:
        ConfigError: for an invalid layout, column, suffix or encoding.
        DataError: naming the first record (file and line), or the file, that cannot be read or
            written.
    """
    _check_names(target, source, columns)
    check_files(path, text_format.encoding, out, force=force)
    if out.suffix.lower() == ".csv" and target not in COLUMNS:
        raise ConfigError(
            f"{out}: {target} has no columns for a csv file; expected .jsonl, or --to "
            f"{' or '.join(COLUMNS)}."
        )
    records = read_records(path, text_format)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path}: no rows; expected at least one.")
    read, written = _layouts(first, path, target, source, columns)
    rows, left_out = 0, dict[str, None]()  # an ordered set
    with output_file(out) as stream:
        write = writer(out, stream, written.keys)
        for number, values in chain([first], records):
            with at(f"{path}:{number}"):
                record = _written(read, written, values)
            write(record)
            rows += 1
            left_out |= dict.fromkeys(read.left_out(values))
    return Converted(rows, read.name, written.name, tuple(left_out))


def _written(
    read: Layout | PairLayout, written: Layout | PairLayout, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a record in the other layout; both are of one kind."""
    if isinstance(read, PairLayout):
        assert isinstance(written, PairLayout)
        return written.write(read.read(values))
    assert isinstance(written, Layout)
    return written.write(read.read(values))


def _check_names(target: str, source: str | None, columns: Columns) -> None:
    every = [*LAYOUTS, *PAIR_LAYOUTS]
    for option, name in (("--to", target), ("--from", source)):
        if name is not None and name not in every:
            raise ConfigError(
                f"{option} {name}: there is no such layout. Valid: {listing(every)}."
                f"{did_you_mean(name, every)}"
            )
    if source is not None and (source in PAIR_LAYOUTS) != (target in PAIR_LAYOUTS):
        raise ConfigError(_two_kinds(source, target))
    if target not in PAIR_LAYOUTS and LAYOUTS[target].fields is None:
        writable = [name for name, layout in LAYOUTS.items() if layout.fields]
        raise ConfigError(f"--to {target}: this layout is read-only; expected {listing(writable)}.")
    if columns.input is not None and columns.input == columns.target:
        raise ConfigError(
            f"--input-column and --target-column are both {columns.input!r}; expected two names."
        )
    if "" in columns:
        raise ConfigError("--input-column or --target-column is empty; expected a name.")


def _two_kinds(source: str, target: str) -> str:
    pairs, other = (source, target) if source in PAIR_LAYOUTS else (target, source)
    return (
        f"--to {target}: {pairs} has two replies, and {other} one; expected two layouts of "
        f"conversations, or two of preferences: {listing(PAIR_LAYOUTS)}."
    )


def _pair_layouts(
    values: Mapping[str, Any], place: str, target: str, source: str | None
) -> tuple[PairLayout, PairLayout]:
    if source is None:
        with at(place):
            source = detect_pair(values)
    return PAIR_LAYOUTS[source], PAIR_LAYOUTS[target]


def _layouts(
    first: Record, path: Path, target: str, source: str | None, columns: Columns
) -> tuple[Layout, Layout] | tuple[PairLayout, PairLayout]:
    """Return the layout to read and the one to write."""
    number, values = first
    if target in PAIR_LAYOUTS:
        return _pair_layouts(values, f"{path}:{number}", target, source)
    if source is None and any(layout.fits(values) for layout in PAIR_LAYOUTS.values()):
        raise ConfigError(_two_kinds(detect_pair(values), target))
    renamed = layouts_with(*columns)
    if source is None:
        source = _detected(values, f"{path}:{number}", renamed, columns)
    if source in COLUMNS:
        return renamed[source], LAYOUTS[target]
    if any(columns) and target not in COLUMNS:
        raise ConfigError(
            f"--input-column and --target-column: neither {source} nor {target} has columns; "
            f"{' and '.join(COLUMNS)} have."
        )
    return LAYOUTS[source], renamed[target]


def _detected(
    values: Mapping[str, Any], place: str, renamed: Mapping[str, Layout], columns: Columns
) -> str:
    try:
        return detect(values, renamed)
    except DataError as error:
        for option, name in zip(("--input-column", "--target-column"), columns, strict=True):
            if name is not None and name not in values:
                raise ConfigError(
                    f"{place}: there is no column {name!r} ({option}); found {quoted(values)}."
                    f"{did_you_mean(name, values)}"
                ) from error
        raise DataError(f"{place}: {error}") from error
