"""Text files: compressed or not, in the encoding that their first bytes name or the user does."""

import bz2
import codecs
import gzip
import io
import lzma
import re
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
_BEGINNINGS = {  # of files that are no text, as no text begins
    ".gz": rb"\x1f\x8b\x08",
    ".bz2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
    ".xz": rb"\xfd7zXZ\0",
    ".zst": rb"\x28\xb5\x2f\xfd",
    ".zip or .xlsx": rb"PK\x03\x04",
    ".xls": rb"\xd0\xcf\x11\xe0",
    ".parquet": rb"PAR1\x15",
    ".arrow": rb"ARROW1\0",
    ".pkl": rb"\x80[\x02-\x05]",
    ".png": rb"\x89PNG",
    ".jpg": rb"\xff\xd8\xff",
    ".pdf": rb"%PDF-",
}
_HEAD = 4096  # bytes that tell what a file is
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_NUL = "\0"
# For bytes that cannot be decoded; no codec decodes anything to these.
_BAD, _SIGN = "\udfff", "\udffe"
_SIGNS = re.compile(rb"[\x80-\x9f]")  # of cp1252; latin-1 has none there


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


def why_unreadable(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that one of `UNREADABLE` was raised for."""
    suffix, reason = path.suffix.lower(), getattr(error, "strerror", None)
    if reason or suffix not in COMPRESSIONS:
        return f"cannot be read: {reason or str(error).rstrip('.')}."
    with path.open("rb") as stream:
        kind = _kind_of(stream.read(_HEAD))
    if kind == suffix:
        return f"is cut or damaged ({error}); expected a whole {suffix} file. Copy it again."
    found = f"begins as {kind} files do" if kind else "seems not to be compressed"
    return f"is no {suffix} file: it {found}; expected one, or the suffix of what it is."


def mark_of(path: Path) -> str | None:
    """Return the codec that a file's byte order mark names; None: it has no mark."""
    return _mark_in(_head(path))


def _mark_in(head: bytes) -> str | None:
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def _kind_of(head: bytes) -> str | None:
    """Return the suffix of files that begin like this; None: it may be text."""
    every = _BEGINNINGS.items()
    return next((kind for kind, beginning in every if re.match(beginning, head)), None)


def lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield a file's lines with their ends; a byte order mark is skipped.

    Args:
        path: the file, compressed or not.
        encoding: of a file without a byte order mark.

    Raises:
        DataError: for an empty or binary file, an unknown encoding, and a line that is not in it.
    """
    head = _head(path)
    mark = _mark_in(head)
    if kind := None if mark else _kind_of(head):
        raise DataError(f"{path}: begins as {kind} files do; expected text, or that suffix.")
    try:
        with _decoded(path, mark or encoding, "strict") as stream:
            first = stream.readline()
            if not first:
                raise DataError(f"{path}: the file is empty; expected rows.")
            if _NUL in first:
                raise DataError(f"{path}, line 1: holds NUL. {_hint(head)}")
            yield from chain([first], stream)
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(error, path, encoding, mark, head)) from error
    except UnicodeError as error:  # utf-16 and utf-32 want the mark that says their byte order
        tried = key_of("encoding", _utf_16(head) or f"{encoding}-le")
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


def _head(path: Path) -> bytes:
    with _open(path) as stream:
        return stream.read(_HEAD)


def _decoded(path: Path, codec: str, errors: str) -> TextIO:
    # newline="" keeps \r\n and line breaks inside quotes as csv wants them.
    return io.TextIOWrapper(_open(path), codec, errors, newline="")


def _undecodable(
    error: UnicodeDecodeError, path: Path, encoding: str, mark: str | None, head: bytes
) -> str:
    # The decoder reads ahead in blocks: what it could not decode is looked for line by line.
    codecs.register_error("tunewright", _marked)
    # Lines with other characters than ASCII: how many, and the first.
    bad = good = first_bad = first_good = 0
    codec = "latin-1"
    with suppress(UnicodeError), _decoded(path, mark or encoding, "tunewright") as stream:
        for number, line in enumerate(stream, start=1):
            if _BAD in line:
                bad += 1
                first_bad = first_bad or number
                codec = "cp1252" if _SIGN in line else codec
            elif not line.isascii():
                good += 1
                first_good = first_good or number
    byte = error.object[error.start]
    # UTF-16 without a mark may be minded by its decoder only now, and has no such line.
    found = f"{path}, line {first_bad or 1}: byte 0x{byte:02x} is not "
    if mark:
        return f"{found}{mark}, which its byte order mark names; expected one encoding in a file."
    # Text in few other encodings is UTF-8 by chance, and then seldom.
    if codecs.lookup(encoding).name == "utf-8" and 10 * good > bad:
        return (
            f"{found}{encoding}, but line {first_good} is, beyond ASCII: the file mixes encodings. "
            "Write all lines in one."
        )
    return f"{found}{encoding}. {_hint(head, codec)}"


def _hint(head: bytes, codec: str = "") -> str:
    """Return what to do about a file that begins like this, and may be in another encoding."""
    if encoding := _utf_16(head):
        return f"If it is UTF-16 without a byte order mark: {key_of('encoding', encoding)}."
    if not codec or len(_BINARY.findall(head)) > len(head) / 50:
        return "The file is binary or damaged; expected text."
    return f"Give the file's encoding, for example {key_of('encoding', codec)}."


def _utf_16(head: bytes) -> str | None:
    """Return which UTF-16 a text seems to be: NUL stands on one side of its letters alone."""
    sides = {"utf-16-be": head[::2], "utf-16-le": head[1::2]}
    zeros = {encoding: side.count(0) for encoding, side in sides.items()}
    most = max(zeros, key=lambda encoding: zeros[encoding])
    is_one = zeros[most] == sum(zeros.values()) > max(1, len(head) / 50)
    return most if is_one else None


def _marked(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    is_sign = _SIGNS.search(error.object, error.start, error.end)
    return _BAD + _SIGN if is_sign else _BAD, error.end
