"""Which valid name a message proposes for a wrong one, and what a full disk is told by."""

import errno
import sqlite3

import pytest

from pipeline.common.errors import (
    DataError,
    DiskFullError,
    did_you_mean,
    did_you_mean_key,
    full_disk_named,
    is_disk_full,
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
    with pytest.raises(DiskFullError, match=said), full_disk_named("try again"):
        raise library
    label = DataError("label 'disk is full': does not occur in training")
    assert not is_disk_full(label)
    assert is_disk_full(sqlite3.OperationalError("database or disk is full"))
