"""What a search is to do is worked out of its options, its space and the base config."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import hydra_plugins.tunewright as plugin
from pipeline.common.errors import ConfigError
from pipeline.search.options import Options
from pipeline.search.plan import make_spec
from pipeline.search.searchable import Searchable
from pipeline.search.space.grammar import parse_space


def test_each_repeat_has_a_seed_from_the_configs_own_on():
    node = OmegaConf.load(Path(plugin.__file__).parent / "conf/hydra/sweeper/optuna.yaml")
    del node["defaults"]
    node.update(sampler={"_target_": "optuna.samplers.TPESampler"}, pruner={}, repeats=2)
    options, space, task = Options.read(node), parse_space(["x=1,2"]), Searchable(print)
    assert make_spec(options, space, OmegaConf.create({"seed": 7}), task).seeds == (7, 8)
    with pytest.raises(ConfigError, match="a config where it is a whole number"):
        make_spec(options, space, OmegaConf.create({"seed": None}), task)
