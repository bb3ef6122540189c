"""What of a config is the experiment, and what only stands beside it."""

from pipeline.config.flat import experiment_of


def test_keys_for_messages_are_left_out_of_their_own_group_alone():
    tree = {
        "model": {"architecture": "bert", "search": {}},
        "training": {"architecture": "bert", "epochs": 1},
        "seed": 1,
    }
    assert experiment_of(tree) == {
        "model": {},
        "training": {"architecture": "bert", "epochs": 1},
        "seed": 1,
    }
