"""Sources: where rows come from. Each returns the splits it was given; cutting is not their job."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import EmbeddedFile, FilesConfig, HubConfig
from pipeline.data.readers import read_records
from pipeline.data.rows import Rows
from pipeline.embedded import locate, sha256
from pipeline.errors import DataError, did_you_mean, listing

SPLITS = ("train", "validation", "test")

# JSON can escape half of a pair on its own ("\ud83d"); such text has no UTF-8 for a tokenizer.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def read_files(config: FilesConfig, split: str) -> Rows | None:
    """Read one split from its file, or return None where the config names none.

    Raises:
        DataError: naming file and line of the first row that has no text or no label.
    """
    path = _path(getattr(config, split))
    if path is None:
        return None
    records = (
        (f"{path.name}:{line}", values) for line, values in read_records(path, config.encoding)
    )
    return _collect(records, place=str(path), text=config.text, label=config.label)


def file_digests(config: FilesConfig) -> dict[str, str]:
    """Return the sha256 of each split's file, by split; a test file may be missing, unread."""
    files = {split: _path(getattr(config, split)) for split in SPLITS}
    return {split: sha256(path) for split, path in files.items() if path and path.is_file()}


def read_hub(config: HubConfig, split: str) -> Rows | None:
    """Read one split of a hub data set, or return None where the config names none.

    Raises:
        DataError: where the hub cannot be reached and the data set is not cached, or lacks the
            split or a column.
    """
    name: str | None = getattr(config, split)
    if name is None:
        return None
    from datasets import ClassLabel, load_dataset

    place = f"{config.name} ({config.subset or 'default'}), split {name}"
    try:
        dataset = load_dataset(
            config.name, config.subset, split=name, revision=config.revision or None
        )
    except Exception as error:  # datasets raises whatever its storage raises
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(f"{place}: cannot be loaded: {type(error).__name__}: {reason}") from error
    label_feature = dataset.features.get(config.label)
    if isinstance(label_feature, ClassLabel):
        # -1 is the hub's mark for a hidden label; it stays out of range and is refused below.
        names = dict(enumerate(label_feature.names))
        labelled = ({**row, config.label: names.get(row[config.label])} for row in dataset)
    else:
        labelled = (row for row in dataset)
    records = ((f"{name}:{number}", row) for number, row in enumerate(labelled, start=1))
    return _collect(records, place=place, text=config.text, label=config.label)


def _path(file: str | EmbeddedFile | None) -> Path | None:
    if file is None:
        return None
    return locate(file) if isinstance(file, EmbeddedFile) else Path(file)


def _collect(
    records: Iterable[tuple[str, Mapping[str, Any]]], *, place: str, text: str, label: str
) -> Rows:
    ids: list[str] = []
    texts: list[str] = []
    labels: list[str] = []
    for row_id, values in records:
        for key, column in (("data.text", text), ("data.label", label)):
            if column not in values:
                raise DataError(
                    f"{place}, row {row_id}: there is no column {column!r} ({key}); found "
                    f"{listing(values)}.{did_you_mean(column, values)}"
                )
        row_text, row_label = values[text], _label_name(values[label])
        if not isinstance(row_text, str) or not row_text.strip():
            raise DataError(
                f"{place}, row {row_id}: no text: found {row_text!r} in column {text!r}, expected "
                "at least one letter."
            )
        if not row_label:
            raise DataError(
                f"{place}, row {row_id}: no label: found {values[label]!r} in column {label!r}, "
                "expected a name or a whole number."
            )
        for column, value in ((text, row_text), (label, row_label)):
            half = _LONE_SURROGATE.search(value)
            if half:
                raise DataError(
                    f"{place}, row {row_id}: column {column!r} holds {half[0]!a}, half of a "
                    "character that is written as two; expected whole characters."
                )
        ids.append(row_id)
        texts.append(row_text)
        labels.append(row_label)
    if not ids:
        raise DataError(f"{place}: no rows; expected at least one below the header.")
    return Rows(ids, texts, labels)


def _label_name(value: Any) -> str:
    """Return a label as a name: ``1`` and ``1.0`` are "1"; missing values are empty."""
    if value is None or value != value or isinstance(value, list | dict):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
