"""A data set as `datasets` reads it, of the hub or a folder: its own files, in formats of rows.

Its card may have been written by anybody, and `datasets` follows it to any path or address; so does
a cell of an image or audio column.

Not public, and touched nowhere else:

- ``data_files.resolve_pattern``: makes files of what a card, a folder or a repository names, before
  any is opened.
- ``packaged_modules._PACKAGED_DATASETS_MODULES``: the formats that are taken for names of data
  sets.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import DataError, is_disk_fault, is_out_of_memory, listing

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.config.data import HubConfig

FORMATS = ("arrow", "csv", "json", "parquet", "text")  # whose readers open the file alone
_GUARDING = threading.Lock()  # the function that is guarded is of the whole process


def folder_of(config: HubConfig) -> Path | None:
    """Return the local folder that a data set's name is; None where it is one of the hub."""
    folder = Path(os.path.expanduser(config.name))
    return folder if folder.is_dir() else None


def load(config: HubConfig, split: str, place: str) -> Dataset:
    """Load a split, without columns of images, audio and the like.

    Args:
        config: the data set.
        split: as the hub calls it, ``train[:10%]`` for a part.
        place: names it in messages.

    Raises:
        DataError: for one that cannot be loaded, names files that are not its own, or is of
            another format.
    """
    import datasets

    folder = folder_of(config)
    if folder is None and config.name in _format_names():
        raise DataError(
            f"{place}: {config.name} is a format to `datasets`, which would read every file of the "
            "working folder; expected owner/name of the hub, or a folder."
        )
    name = os.path.abspath(folder) if folder else config.name  # a folder may be called csv
    try:
        with _own_files(_roots(folder) if folder else [], place):
            version = config.revision or None
            builder = datasets.load_dataset_builder(name, config.subset, revision=version)
            if builder.name not in FORMATS:
                raise DataError(
                    f"{place}: its files are of the format {builder.name}; expected "
                    f"{listing(FORMATS)}."
                )
            builder.download_and_prepare()
            found: Dataset = builder.as_dataset(split=split)
    except DataError:
        raise
    except Exception as error:  # datasets passes on any error of its storage
        if is_disk_fault(error) or is_out_of_memory(error):
            raise
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise DataError(f"{place}: cannot be loaded: {type(error).__name__}: {reason}") from error
    return found.remove_columns([key for key, of in found.features.items() if _opens_files(of)])


def _roots(folder: Path) -> list[Path]:
    """Return where the files of a data set in a folder may lie, links followed.

    A folder that the hub's client downloaded is full of links into its cache.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    return [Path(os.path.realpath(root)) for root in (folder, Path.cwd(), HF_HUB_CACHE)]


@contextmanager
def _own_files(roots: Sequence[Path], place: str) -> Iterator[None]:
    """Have `datasets` find no files but a data set's own; without roots it is one of the hub."""
    from datasets import data_files

    def resolved(pattern: str, base_path: str, *args: Any, **kwargs: Any) -> list[str]:
        named = os.path.join(base_path, pattern)
        below = named if roots else named.removeprefix("hf://")
        is_elsewhere = not roots and below == named  # an absolute path leaves the repository
        # `datasets` would open a connection to look at an address.
        if is_elsewhere or "://" in below or "::" in below:
            raise _refusal(place, pattern)
        found: list[str] = resolve(pattern, base_path, *args, **kwargs)
        for file in found if roots else ():
            real = Path(os.path.realpath(file))
            if not any(real.is_relative_to(root) for root in roots):
                raise _refusal(place, file if file == str(real) else f"{file} ({real})")
        return found

    with _GUARDING:
        resolve = data_files.resolve_pattern
        data_files.resolve_pattern = resolved
        try:
            yield
        finally:
            data_files.resolve_pattern = resolve


def _refusal(place: str, file: str) -> DataError:
    return DataError(
        f"{place}: it takes rows from {file}, which is not a file of its own: expected files in "
        "its folder or repository. If you trust it, copy that file into the folder and name it "
        "there, or read it by data=files data.train=…"
    )


def _opens_files(feature: Any) -> bool:
    """Whether a value of a feature may hold the path of a file, which reading the value opens."""
    from datasets import Json

    if isinstance(feature, Mapping):
        return any(map(_opens_files, feature.values()))
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if inner is not None:
        return _opens_files(inner)
    return hasattr(feature, "decode_example") and not isinstance(feature, Json)


def _format_names() -> Mapping[str, Any]:
    from datasets import packaged_modules

    found: Mapping[str, Any] = packaged_modules._PACKAGED_DATASETS_MODULES
    return found
