"""What a search is to do is worked out of its options, its space and the base config."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import hydra_plugins.tunewright as plugin
from pipeline.common.errors import ConfigError
from pipeline.search.options import Options
from pipeline.search.plan import make_spec
from pipeline.search.searchable import Searchable
from pipeline.search.space.dimension import Dimension
from pipeline.search.space.grammar import parse_space


def test_each_repeat_has_a_seed_from_the_configs_own_on():
    node = OmegaConf.load(Path(plugin.__file__).parent / "conf/hydra/sweeper/optuna.yaml")
    del node["defaults"]
    node.update(sampler={"_target_": "optuna.samplers.TPESampler"}, pruner={}, repeats=2)
    options, space, task = Options.read(node), parse_space(["x=1,2"]), Searchable(print)
    assert make_spec(options, space, OmegaConf.create({"seed": 7}), task).seeds == (7, 8)
    with pytest.raises(ConfigError, match="a config where it is a whole number"):
        make_spec(options, space, OmegaConf.create({"seed": None}), task)


@pytest.mark.parametrize(
    ("sampler", "refused"),
    [
        ("GridSampler", r"grid has 999,999,999,999 points; .* hydra\.sweeper\.n_trials"),
        ("GPSampler", "x has 999,999,999,999 values, which it lists"),
        ("TPESampler", None),
        ("RandomSampler", None),
    ],
)
def test_huge_range_is_counted_and_never_listed(monkeypatch, sampler, refused):
    def listed(*_):
        raise AssertionError("listed")

    monkeypatch.setattr(Dimension, "grid", listed)
    node = OmegaConf.load(Path(plugin.__file__).parent / "conf/hydra/sweeper/optuna.yaml")
    del node["defaults"]
    node.update(sampler={"_target_": f"optuna.samplers.{sampler}"}, pruner={}, n_trials=20)
    options, space = Options.read(node), parse_space(["x=range(1,1000000000000)"])
    config, task = OmegaConf.create({"x": 1}), Searchable(float)
    if refused is None:
        assert make_spec(options, space, config, task).budget.n_trials == 20
        return
    with pytest.raises(ConfigError, match=refused):
        make_spec(options, space, config, task)
