"""What of a config is the experiment, and what only stands beside it."""

from omegaconf import OmegaConf

from pipeline.config.flat import as_tree


def test_keys_for_messages_are_left_out_of_their_own_group_alone():
    tree = {
        "model": {"architecture": "bert", "search": {}},
        "training": {"architecture": "bert", "epochs": 1},
        "seed": 1,
    }
    assert as_tree(OmegaConf.create(tree)) == {
        "model": {},
        "training": {"architecture": "bert", "epochs": 1},
        "seed": 1,
    }
