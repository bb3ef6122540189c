"""Sources: where rows come from. Each returns the given splits; cutting is not their job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import DataError
from pipeline.config.data import DataConfig, FilesConfig, HubConfig
from pipeline.config.types import EmbeddedFile
from pipeline.data.package_files import locate, sha256
from pipeline.data.readers import Refuse, read_records, stop
from pipeline.data.rows import Rows
from pipeline.data.shapes import Shape

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")


def read_split(config: DataConfig, shape: Shape, split: str, refuse: Refuse = stop) -> Rows | None:
    """Read one split; return None if the config names none, or no record can be used.

    Args:
        config: where the rows are.
        shape: what is read of them.
        split: train, validation or test.
        refuse: handles records that cannot be used.

    Raises:
        DataError: for the first such record, unless `refuse` tolerates it.
    """
    try:
        if isinstance(config, FilesConfig):
            return read_files(config, split, shape, refuse)
        return read_hub(config, split, shape, refuse)
    except DataError as error:
        refuse(error)
        return None


def read_files(config: FilesConfig, split: str, shape: Shape, refuse: Refuse) -> Rows | None:
    """Read one split from its file, or return None if the config names none.

    Raises:
        DataError: naming file and line of the first row that the task cannot use.
    """
    path = path_of(config, split)
    if path is None:
        return None
    read = read_records(path, config.encoding, refuse)
    numbered = ((f"{path.name}:{line}", values) for line, values in read)
    return _collect(numbered, str(path), shape, refuse)


def records(config: DataConfig, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the records of a split with the ids of their rows; none if the config names no split.

    Raises:
        DataError: for a file or a data set that cannot be read; lines of bad syntax are left out.
    """
    if isinstance(config, HubConfig):
        name: str | None = getattr(config, split)
        if name is not None:
            for number, row in enumerate(_load(config, name), start=1):
                yield f"{name}:{number}", row
        return
    path = path_of(config, split)
    if path is not None:
        for line, values in read_records(path, config.encoding, lambda _: None):
            yield f"{path.name}:{line}", values


def file_digests(config: FilesConfig) -> dict[str, str]:
    """Return the sha256 of each split's file, by split; a test file may be missing, unread."""
    files = {split: path_of(config, split) for split in SPLITS}
    return {split: sha256(path) for split, path in files.items() if path and path.is_file()}


def read_hub(config: HubConfig, split: str, shape: Shape, refuse: Refuse) -> Rows | None:
    """Read one split of a hub data set, or return None if the config names none.

    Raises:
        DataError: if the hub cannot be reached and the data set is not cached, or lacks the
            split or a column.
    """
    name: str | None = getattr(config, split)
    if name is None:
        return None
    from datasets import ClassLabel

    dataset = _load(config, name)
    column = shape.label_column
    feature = dataset.features.get(column) if column is not None else None
    several = getattr(feature, "feature", None)  # of a list
    labelled: Iterable[Mapping[str, Any]] = dataset
    # The hub marks a hidden label by -1; it stays out of range and is refused below.
    if column is not None and isinstance(feature, ClassLabel):
        names = dict(enumerate(feature.names))
        labelled = ({**row, column: names.get(row[column])} for row in dataset)
    elif column is not None and isinstance(several, ClassLabel):
        names = dict(enumerate(several.names))
        labelled = ({**row, column: [names.get(i) for i in row[column]]} for row in dataset)
    numbered = ((f"{name}:{number}", row) for number, row in enumerate(labelled, start=1))
    return _collect(numbered, _place(config, name), shape, refuse)


def _load(config: HubConfig, name: str) -> Dataset:
    from datasets import load_dataset

    try:
        return load_dataset(
            config.name, config.subset, split=name, revision=config.revision or None
        )
    except Exception as error:  # datasets passes on any error of its storage
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        place = _place(config, name)
        raise DataError(f"{place}: cannot be loaded: {type(error).__name__}: {reason}") from error


def _place(config: HubConfig, name: str) -> str:
    return f"{config.name} ({config.subset or 'default'}), split {name}"


def path_of(config: FilesConfig, split: str) -> Path | None:
    """Return the path of a split's file, or None if the config names none."""
    file: str | EmbeddedFile | None = getattr(config, split)
    if file is None:
        return None
    return locate(file) if isinstance(file, EmbeddedFile) else Path(file)


def _collect(
    records: Iterable[tuple[str, Mapping[str, Any]]], place: str, shape: Shape, refuse: Refuse
) -> Rows:
    ids: list[str] = []
    rows: list[dict[str, Any]] = []
    for row_id, values in records:
        try:
            rows.append(shape.read(values, f"{place}, row {row_id}"))
        except DataError as error:
            refuse(error)
        else:
            ids.append(row_id)
    if not ids:
        raise DataError(f"{place}: no rows; expected at least one below the header.")
    return Rows(shape, ids, {name: [row[name] for row in rows] for name in rows[0]})
