"""Sources: where rows come from. Each returns the given splits; cutting is not their job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import DataError, did_you_mean, listing
from pipeline.common.session import shared
from pipeline.config.data import DataConfig, FilesConfig, HubConfig
from pipeline.config.types import EmbeddedFile
from pipeline.data.package_files import locate, sha256
from pipeline.data.readers import Refuse, read_records, stop
from pipeline.data.rows import Row, Rows, Values
from pipeline.data.shapes import Shape

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")


def read_split(config: DataConfig, shape: Shape, split: str, refuse: Refuse = stop) -> Rows | None:
    """Read one of `SPLITS`; return None if the config names none, or no record can be used.

    Raises:
        DataError: for the first record that cannot be used, naming file and line or number, and for
            a file or a hub data set that cannot be read; unless ``refuse`` tolerates it.
    """
    if getattr(config, split) is None:
        return None
    ids: list[str] = []
    rows: list[Row] = []
    try:
        place = _place(config, split)
        for row_id, values in records(config, split, refuse, shape.label_column):
            try:
                rows.append(shape.read(values, f"{place}, row {row_id}"))
            except DataError as error:
                refuse(error)
            else:
                ids.append(row_id)
        if not ids:
            raise DataError(f"{place}: no rows; expected at least one below the header.")
    except DataError as error:
        refuse(error)
        return None
    return Rows(shape, ids, {name: [row[name] for row in rows] for name in rows[0]})


def records(
    config: DataConfig, split: str, refuse: Refuse, label_column: str | None = None
) -> Iterator[tuple[str, Values]]:
    """Yield the records of a split with the ids of their rows; none if the config names no split.

    Labels of ``label_column`` are given by name where a hub data set holds their numbers.

    Raises:
        DataError: for what cannot be read at all; a line of bad syntax goes to ``refuse``.
    """
    if isinstance(config, HubConfig):
        name: str | None = getattr(config, split)
        if name is not None:
            for number, row in enumerate(_named(_load(config, split), label_column), start=1):
                yield f"{name}:{number}", row
        return
    path = path_of(config, split)
    if path is not None:
        for line, values in read_records(path, config.encoding, refuse):
            yield f"{path.name}:{line}", values


def _named(dataset: Dataset, column: str | None) -> Iterator[Values]:
    """Yield the rows of a data set, with names of labels instead of their numbers."""
    from datasets import ClassLabel

    feature = dataset.features.get(column)
    several = getattr(feature, "feature", None)  # of a list
    labels = feature if isinstance(feature, ClassLabel) else several
    # The hub marks a hidden label by -1; it stays out of range and is refused by the shape.
    names = dict(enumerate(labels.names)) if isinstance(labels, ClassLabel) else None
    for row in dataset:
        if column is None or names is None:
            yield row
        elif labels is several:
            yield {**row, column: [names.get(i) for i in row[column]]}
        else:
            yield {**row, column: names.get(row[column])}


def file_digests(config: FilesConfig) -> dict[str, str]:
    """Return the sha256 of each split's file, by split; a test file may be missing, unread."""
    files = {split: path_of(config, split) for split in SPLITS}
    return {split: sha256(path) for split, path in files.items() if path and path.is_file()}


def _load(config: HubConfig, split: str) -> Dataset:
    from datasets import load_dataset

    name, revision = getattr(config, split), config.revision or None
    try:
        return load_dataset(config.name, config.subset, split=name, revision=revision)
    except Exception as error:  # datasets passes on any error of its storage
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        place = _place(config, split)
        raise DataError(f"{place}: cannot be loaded: {type(error).__name__}: {reason}") from error


def _place(config: DataConfig, split: str) -> str:
    """Return where a split is, for messages."""
    if isinstance(config, FilesConfig):
        return str(path_of(config, split))
    return f"{config.name} ({config.subset or 'default'}), split {getattr(config, split)}"


def path_of(config: FilesConfig, split: str) -> Path | None:
    """Return the path of a split's file, or None if the config names none."""
    file: str | EmbeddedFile | None = getattr(config, split)
    if file is None:
        return None
    return locate(file) if isinstance(file, EmbeddedFile) else Path(file)


@shared(maxsize=4)
def slice_values(config: DataConfig, columns: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    """Return the values of some columns for each row that the config names, by its id.

    Raises:
        DataError: for a column that a split lacks.
    """
    found: dict[str, Sequence[str]] = {}
    for split in SPLITS:
        for row_id, values in records(config, split, lambda _: None):
            for column in columns:
                if column not in values:
                    raise DataError(
                        f"evaluation.slices: the {split} split, row {row_id}, has no column "
                        f"{column!r}.{did_you_mean(column, values)} Found {listing(values)}."
                    )
            found[row_id] = [_slice_of(values[column]) for column in columns]
    return found


def _slice_of(value: Any) -> str:
    text = "" if value is None or value != value else str(value).strip()
    return text or "(none)"
