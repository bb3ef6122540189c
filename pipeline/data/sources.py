"""Sources: where rows come from. Each returns the given splits; cutting is not their job."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.common.errors import DataError, did_you_mean, listing, quoted
from pipeline.common.paths import expanded, is_pattern
from pipeline.common.session import shared
from pipeline.common.text import words
from pipeline.common.text_format import TextFormat
from pipeline.config.data import DataConfig, FilesConfig, HubConfig
from pipeline.config.types import EmbeddedFile
from pipeline.data import hub
from pipeline.data.class_labels import named
from pipeline.data.package_files import locate, sha256
from pipeline.data.readers import READERS, is_address, read_records, reader_of, stop
from pipeline.data.rows import Record, Refuse, Row, Rows
from pipeline.data.shapes import Shape

SPLITS = ("train", "validation", "test")
_OTHERS = words("test val valid validation dev eval")  # in names of files that are not to train on
# What `datasets` writes beside its arrow files.
_ASIDE = ("dataset_dict.json", "dataset_info.json", "state.json")


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
    for part in _parts(config, split):
        try:
            found = dict(_read(part, shape, refuse))
        except DataError as error:
            refuse(error)
        else:
            ids += found
            rows += found.values()
    if not ids:
        return None
    return Rows(shape, ids, {name: [row[name] for row in rows] for name in rows[0]})


def _read(part: _Part, shape: Shape, refuse: Refuse) -> Iterator[tuple[str, Row]]:
    """Yield the rows of one part that can be used, with their ids."""
    refused: list[DataError] = []

    def note(error: DataError) -> None:
        refused.append(error)
        refuse(error)

    number = 0
    for number, values in part.records(note):
        row_id = f"{part.name}:{number}"
        try:
            yield row_id, shape.read(values, f"{part.place}, row {row_id}")
        except DataError as error:
            refuse(error)
    if not number and not refused:
        raise DataError(f"{part.place}: no rows; expected at least one below the header.")


class _Part(NamedTuple):
    """A file, or a split of the hub."""

    name: str  # which the ids of its rows begin with
    place: str  # for messages
    records: Callable[[Refuse], Iterator[Record]]


def _parts(config: DataConfig, split: str) -> Iterator[_Part]:
    """Yield where the rows of a split are; nothing if the config names no split."""
    if isinstance(config, HubConfig):
        name = getattr(config, split)
        if name is not None:
            place = f"{config.name} ({config.subset or 'default'}), split {name}"
            yield _Part(name, place, lambda _: _hub_records(config, name, place))
        return
    for name, path in files_of(config, split).items():
        yield _Part(name, str(path), partial(_file_records, config, path))


def _file_records(config: FilesConfig, path: Path, refuse: Refuse) -> Iterator[Record]:
    is_folder = os.path.isdir(path)  # False where a path cannot be: its reader says so
    if is_folder or (is_pattern(str(path)) and not is_address(path)):
        found = "is a folder without" if is_folder else "is a pattern that matches no"
        raise DataError(
            f"{path}: {found} files of a known format: {listing(READERS)} (working folder: "
            f"{Path.cwd()})."
        )
    yield from read_records(path, text_format(config), refuse)


def _hub_records(config: HubConfig, split: str, place: str) -> Iterator[Record]:
    dataset = hub.load(config, split, place)
    yield from enumerate(named(dataset, dataset.features), start=1)


def text_format(config: FilesConfig) -> TextFormat:
    """Return how the text files of a config are written."""
    return TextFormat(config.encoding, config.delimiter, config.quoting)


def files_of(config: FilesConfig, split: str) -> dict[str, Path]:
    """Return the files of a split by the names that are in the ids of their rows.

    It is a file's own name unless files of the config share it: then its path below the folder that
    they all are in. So an id names one row, wherever that folder is.
    """
    paths = {name: _paths(getattr(config, name)) for name in SPLITS}
    every = set(chain.from_iterable(paths.values()))
    if len({path.name for path in every}) == len(every):
        return {path.name: path for path in paths[split]}
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in every])
    return {Path(os.path.relpath(path, root)).as_posix(): path for path in paths[split]}


def _paths(given: str | Sequence[str] | EmbeddedFile | None) -> list[Path]:
    """Return the files that a split names, each once; of folders those of a known format."""
    if given is None:
        return []
    if isinstance(given, EmbeddedFile):
        return [locate(given)]
    found: list[Path] = []
    for name in [given] if isinstance(given, str) else given:
        known = [p for p in expanded(name) if reader_of(p) and p.name not in _ASIDE]
        found += known or [Path(os.path.expanduser(name))]  # which is refused when it is read
    once: dict[str, Path] = {}
    for path in found:
        once.setdefault(os.path.abspath(path), path)
    return list(once.values())


def files_of_other_splits(config: DataConfig) -> list[str]:
    """Return a warning of files in a folder or pattern to train on whose names say another split.

    A file that is given by its own name is meant.
    """
    if not isinstance(config, FilesConfig) or isinstance(config.train, EmbeddedFile):
        return []
    given = [config.train] if isinstance(config.train, str) else config.train
    meant = {os.path.abspath(os.path.expanduser(name)) for name in given}
    paths = [os.path.abspath(path) for path in files_of(config, "train").values()]
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [os.path.relpath(path, root) for path in paths if path not in meant]
    found = [name for name in names if _OTHERS.intersection(re.findall("[a-z]+", name.lower()))]
    what = f"train: {listing(found)}: named like another split, but trained on; expected such files"
    return [f"{what} in data.validation or data.test, and data.train without them"] if found else []


def file_digests(config: FilesConfig) -> dict[str, str | Mapping[str, str]]:
    """Return the sha256 of each split's file, or files by name; a test file may be missing."""
    digests: dict[str, str | Mapping[str, str]] = {}
    for split in SPLITS:
        files = files_of(config, split)
        found = {name: sha256(path) for name, path in files.items() if os.path.isfile(path)}
        if found:
            digests[split] = found if len(files) > 1 else next(iter(found.values()))
    return digests


@shared(maxsize=4)
def slice_values(config: DataConfig, columns: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    """Return the values of some columns for each row that the config names, by its id.

    Raises:
        DataError: for a column that a split lacks.
    """
    found: dict[str, Sequence[str]] = {}
    for split in SPLITS:
        for part in _parts(config, split):
            for number, values in part.records(lambda _: None):
                row_id = f"{part.name}:{number}"
                for column in columns:
                    if column not in values:
                        raise DataError(
                            f"evaluation.slices: the {split} split, row {row_id}, has no column "
                            f"{column!r}.{did_you_mean(column, values)} Found {quoted(values)}."
                        )
                found[row_id] = [_slice_of(values[column]) for column in columns]
    return found


def _slice_of(value: Any) -> str:
    text = "" if value is None or value != value else str(value).strip()
    return text or "(none)"
