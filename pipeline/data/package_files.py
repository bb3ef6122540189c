"""Files inside installed distributions: found through their metadata, never imported."""

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pipeline.common.errors import DataError
from pipeline.common.session import shared
from pipeline.config.types import EmbeddedFile


@shared(maxsize=None)
def locate(file: EmbeddedFile) -> Path:
    """Return the path of an embedded file whose bytes have the stated sha256.

    Raises:
        DataError: if the distribution is not installed, lacks the file, or has another one.
    """
    try:
        path = Path(str(distribution(file.distribution).locate_file(file.path)))
    except PackageNotFoundError as error:
        raise DataError(
            f"{file.path}: the distribution {file.distribution} that holds it is not installed. "
            "Install the extra `demo`: pip install 'tunewright[demo]'."
        ) from error
    if not path.is_file():
        raise DataError(f"{path}: no such file in the distribution {file.distribution}.")
    found = sha256(path)
    if found != file.sha256:
        raise DataError(f"{path}: its sha256 is {found}, expected {file.sha256}.")
    return path


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
