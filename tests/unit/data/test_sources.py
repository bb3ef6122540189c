"""Sources: a split may be several files, and the id of a row says which one it is in."""

import gzip
from pathlib import Path

import pytest

from pipeline.common.errors import DataError
from pipeline.data import load_splits, read_split
from pipeline.data.package_files import sha256
from pipeline.data.sources import file_digests, files_of_other_splits, slice_values
from pipeline.tasks.parts.labelled import Labelled
from tests.support.configs import files
from tests.support.rows import rows, write_rows


@pytest.fixture(autouse=True)
def folder(working_folder, monkeypatch):
    """Files of one and two rows in two folders."""
    monkeypatch.setenv("HOME", str(working_folder))
    for name, count in (("x/b.jsonl", 1), ("x/a.jsonl", 2), ("y/a.jsonl", 1)):
        Path(name).parent.mkdir(exist_ok=True)
        write_rows(Path(name), rows(count))
    Path("x/README.md").touch()
    Path("x/._a.csv").touch()
    Path("x/state.json").write_text("{}")  # which `datasets` writes beside its files


def ids(train, **others):
    config = files(train=train, text="review", label="stars", **others)
    return read_split(config, Labelled(config.columns), "train").ids


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("x/b.jsonl", ["b.jsonl:1"]),
        ("~/x/b.jsonl", ["b.jsonl:1"]),
        (["x/b.jsonl", "x/a.jsonl"], ["b.jsonl:1", "a.jsonl:1", "a.jsonl:2"]),
        (["x/b.jsonl", "x/../x/b.jsonl", "~/x/b.jsonl", "x/b*"], ["b.jsonl:1"]),
        ("x", ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1"]),
        ("~/x/*.jsonl", ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1"]),
        ("*/a.jsonl", ["x/a.jsonl:1", "x/a.jsonl:2", "y/a.jsonl:1"]),
        (["y", "x"], ["y/a.jsonl:1", "x/a.jsonl:1", "x/a.jsonl:2", "x/b.jsonl:1"]),
    ],
)
def test_files_are_read_in_order_and_ids_name_their_file(given, found):
    assert ids(given) == found


def test_a_file_whose_name_has_the_signs_of_a_pattern_is_that_file():
    write_rows(Path("a[1].jsonl"), rows(1))
    assert ids("a[1].jsonl") == ["a[1].jsonl:1"]


def test_ids_of_splits_in_files_of_one_name_differ():
    config = files(train="x/a.jsonl", test="y/a.jsonl", text="review", label="stars")
    assert ids("x/a.jsonl", test="y/a.jsonl") == ["x/a.jsonl:1", "x/a.jsonl:2"]
    assert list(slice_values(config, ("stars",))) == ["x/a.jsonl:1", "x/a.jsonl:2", "y/a.jsonl:1"]


def test_a_digest_is_of_the_one_file_or_of_each():
    one, other = sha256(Path("x/a.jsonl")), sha256(Path("x/b.jsonl"))
    digests = file_digests(files(train="x/b.jsonl", validation="x", test="none.csv"))
    assert digests == {"train": other, "validation": {"a.jsonl": one, "b.jsonl": other}}


def test_files_of_the_same_rows_are_named():
    write_rows(Path("x/b.jsonl"), rows(40))
    Path("x/c.jsonl.gz").write_bytes(gzip.compress(Path("x/b.jsonl").read_bytes()))
    Path("x/d.jsonl").symlink_to("b.jsonl")
    config = files(train="x", text="review", label="stars")
    (said,) = load_splits(config, Labelled(config.columns), with_test=False).warnings
    assert "b.jsonl, c.jsonl.gz, d.jsonl hold the same rows, which are read 3 times" in said


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("x", "c-test.jsonl"),
        (["x", "x/*/*.jsonl"], "c-test.jsonl, dev/d.jsonl"),
        (["x/c-test.jsonl", "x/a.jsonl"], ""),
        (["x/*.jsonl", "x/c-test.jsonl"], ""),
        ("x/dev", ""),
        ("y", ""),
    ],
)
def test_files_in_a_folder_that_are_named_like_another_split_are_a_warning(given, named):
    for name in ("x/c-test.jsonl", "x/dev/d.jsonl", "y/latest.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        write_rows(Path(name), rows(1))
    said = files_of_other_splits(files(train=given))
    assert [one.split(": ")[1] for one in said] == ([named] if named else [])


def test_rows_before_a_late_syntax_error_are_not_used():
    good = "review,stars\n" + "fine,pos\n" * 3
    Path("x/late.csv").write_text(good + 'bad,"neg\n' + "fine,pos\n" * 3)
    config = files(train=["x/late.csv", "x/b.jsonl"], text="review", label="stars")
    refused = []
    found = read_split(config, Labelled(config.columns), "train", refused.append)
    assert found.ids == ["b.jsonl:1"]
    assert ["x/late.csv, line 5: unexpected end of data" in str(e) for e in refused] == [True]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("empty", "empty: is a folder without files of a known format"),
        ("z*", r"z\*: is a pattern that matches no files of a known format"),
        ("x/*.md", r"x/\*\.md: is a pattern that matches no files of a known format"),
        (["x", "https://example.org/a.csv?raw=1"], "is a URL"),
        (["x", "https://example.org/a.csv"], "is a URL"),
        ("x/README.md", "'.md' is not a known format"),
        (f"{'n' * 300}.csv", "cannot be read: File name too long"),
    ],
)
def test_what_names_no_file_is_refused(given, said):
    Path("empty").mkdir()
    with pytest.raises(DataError, match=said):
        ids(given)
