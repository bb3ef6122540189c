"""Which valid name a message proposes for a wrong one."""

import pytest

from pipeline.common.errors import did_you_mean, did_you_mean_key

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
    [("sgd", "SGD"), ("reviews.csv", "review.csv"), ("other.csv", ""), ("Foo", "")],
)
def test_a_name_is_proposed_whole(name, near):
    valid = ["AdamW", "SGD", "review.csv"]
    assert did_you_mean(name, valid) == (f" Did you mean {near}?" if near else "")
