"""Which valid name a message proposes for a wrong one, and what a full disk is told by."""

import errno
import sqlite3

import pytest

from pipeline.common.errors import (
    DataError,
    DiskError,
    OutOfMemoryError,
    did_you_mean,
    did_you_mean_key,
    is_disk_fault,
    machine_faults_named,
)

KEYS = ["seed", "optimizer", "optimizer.name", "optimizer.momentum", "optimizer.learning_rate"]
KEYS += ["training", "training.epochs", "training.batch_size", "task.stride", "data.fold"]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("optimizer.momntum", "optimizer.momentum"),
        ("optimizer.lerning_rate", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("training.learning_rate", "optimizer.learning_rate"),
        ("trainig.epoch", "training.epochs"),
        ("optimzer", "optimizer"),
        ("data.train", ""),  # not task.stride
        ("training.xyzzy", ""),  # not training
        ("optimizer.nesterov", ""),
        ("xyzzy", ""),
    ],
)
def test_a_key_is_proposed_by_its_last_part_and_its_group(key, near):
    assert did_you_mean_key(key, KEYS) == (f" Did you mean {near}?" if near else "")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("sgd", "SGD"),
        ("reviews.csv", "review.csv"),
        ("other.csv", ""),
        ("Foo", ""),
        ("text", r"'\ufefftext'"),  # its signs are seen
        ("label", "'label '"),
    ],
)
def test_a_name_is_proposed_whole(name, near):
    valid = ["AdamW", "SGD", "review.csv", "\ufefftext", "label "]
    assert did_you_mean(name, valid) == (f" Did you mean {near}?" if near else "")


def test_a_full_disk_is_told_by_what_raised_it_and_not_by_its_words():
    full = OSError(errno.ENOSPC, "No space left on device", "model.pt")
    library = RuntimeError("could not save")
    library.__cause__ = full
    said = r"a disk is full: .*'model.pt'. Free some space, then try again"
    with pytest.raises(DiskError, match=said), machine_faults_named("try again"):
        raise library
    for gone in (
        OSError(errno.EROFS, "Read-only file system"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        sqlite3.OperationalError("unable to open database file"),
    ):
        said = "a disk cannot be written: "
        with pytest.raises(DiskError, match=said), machine_faults_named("try again"):
            raise gone
    for emptied in ("no such table: runs", "file is not a database"):
        with (
            pytest.raises(DiskError, match="Put back a copy of it, then try again"),
            machine_faults_named("try again"),
        ):
            raise sqlite3.DatabaseError(emptied)
    label = DataError("label 'disk is full': does not occur in training")
    assert not is_disk_fault(label)
    assert is_disk_fault(sqlite3.OperationalError("database or disk is full"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),  # oneDNN's
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=str,
)
def test_want_of_memory_is_a_paragraph(error):
    said = "micro_batch_tokens bounds"
    with pytest.raises(OutOfMemoryError, match=said), machine_faults_named("try again"):
        raise error
