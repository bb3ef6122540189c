"""A file of records is written whole, or an error names it and nothing stays."""

import os
from pathlib import Path

import pytest

from pipeline.common.errors import DataError
from pipeline.data.writers import output_file, writer


def write_to_a_full_disk(out: Path) -> None:
    with output_file(out) as stream, Path("/dev/full").open("w") as full:
        os.dup2(full.fileno(), stream.fileno())
        writer(out, stream, ["a"])({"a": "b" * 100_000})


def test_error_of_writing_names_the_file(working_folder):
    out = working_folder / "out.jsonl"
    with pytest.raises(PermissionError), output_file(out):
        raise PermissionError("another file")
    with pytest.raises(DataError, match=r"out\.jsonl: cannot be written: No space left"):
        write_to_a_full_disk(out)
    there = working_folder / "there" / "out.jsonl"
    with pytest.raises(DataError, match="cannot be written: No such file"), output_file(there):
        pass
    assert not list(working_folder.iterdir())
