"""Text files: compressed or not, in the encoding that their first bytes name or the user does."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any, TextIO, cast

from pipeline.common.errors import DataError
from pipeline.common.text_format import key_of

# The longer ones first: UTF-32's mark begins with UTF-16's. Each codec skips its mark.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
UNREADABLE = (OSError, EOFError, lzma.LZMAError, zlib.error)  # what a file that is damaged raises
_NO_TEXT = {  # how other files begin
    b"\x1f\x8b": "a .gz",
    b"\xfd7zXZ": "an .xz",
    b"\x28\xb5\x2f\xfd": "a .zst",
    b"BZh": "a .bz2",
    b"PK\x03\x04": "a .zip or .xlsx",
    b"PAR1": "a .parquet",
    b"ARROW1": "an .arrow",
}
_NUL = "\0"
_BAD = "\udfff"  # which no codec decodes anything to


def _open_zst(path: Path) -> IO[bytes]:
    import pyarrow as pa  # the standard library has zstd from Python 3.14 on

    return cast("IO[bytes]", pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


COMPRESSIONS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zst,
}


def uncompressed(path: Path) -> Path:
    """Return a path without the suffix of a compression: ``rows.csv`` for ``rows.csv.gz``."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path


def mark_of(path: Path) -> str | None:
    """Return the codec that a file's byte order mark names; None: it has no mark."""
    with _open(path) as stream:
        start = stream.read(4)
    return next((codec for mark, codec in _MARKS if start.startswith(mark)), None)


def lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield a file's lines with their ends; a byte order mark is skipped.

    Args:
        path: the file, compressed or not.
        encoding: of a file without a byte order mark.

    Raises:
        DataError: for an unknown encoding, and a line that is not in it.
    """
    mark = mark_of(path)
    try:
        with _decoded(path, mark or encoding, "strict") as stream:
            first = stream.readline()
            if _NUL in first:
                raise DataError(
                    f"{path}, line 1: holds NUL, as UTF-16 without a byte order mark does. "
                    f"{_hint(first.index(_NUL))}"
                )
            yield from chain([first] if first else [], stream)
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(error, path, encoding, mark)) from error
    except UnicodeError as error:  # utf-16 and utf-32 want the mark that says their byte order
        tried = key_of("encoding", f"{encoding}-le")
        raise DataError(f"{path}: is not {encoding}: {error}. Try {tried}.") from error
    except LookupError as error:
        raise DataError(
            f"data.encoding={encoding}: no such encoding. For example utf-8, latin-1, gb18030."
        ) from error


def _open(path: Path) -> IO[bytes]:
    """Open a file's bytes, without its compression."""
    stream: IO[bytes] = COMPRESSIONS.get(path.suffix.lower(), _open_plain)(path)
    return stream


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _decoded(path: Path, codec: str, errors: str) -> TextIO:
    # newline="" keeps \r\n and line breaks inside quotes as csv wants them.
    return io.TextIOWrapper(_open(path), codec, errors, newline="")


def _undecodable(error: UnicodeDecodeError, path: Path, encoding: str, mark: str | None) -> str:
    for start, kind in _NO_TEXT.items():
        if error.object.startswith(start):
            return f"{path}: begins as {kind} file does; expected text, or that suffix."
    # The decoder reads ahead in blocks: what it could not decode is looked for line by line.
    codecs.register_error("tunewright", _marked)
    number = 1  # of UTF-16 without a mark, which the decoder may mind only now
    with suppress(UnicodeError), _decoded(path, mark or encoding, "tunewright") as stream:
        number = next(n for n, line in enumerate(stream, start=1) if _BAD in line)
    found = f"{path}, line {number}: byte 0x{error.object[error.start]:02x} is not "
    if mark:
        return f"{found}{mark}, which its byte order mark names; expected one encoding in a file."
    return f"{found}{encoding}. {_hint(error.object.find(0))}"


def _hint(nul: int) -> str:
    """Return the key to give, by the place of the first NUL, which UTF-16 has in every letter."""
    encoding = "latin-1" if nul < 0 else "utf-16-le" if nul % 2 else "utf-16-be"
    return f"Give the file's encoding, for example {key_of('encoding', encoding)}."


def _marked(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _BAD, error.end
