"""The sweeper's options are refused with key, found, expected and the nearest name."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import hydra_plugins.tunewright as plugin
from pipeline.common.errors import ConfigError
from pipeline.search.options import Options
from pipeline.search.samplers import ALLOWED


def given(**changed):
    node = OmegaConf.load(Path(plugin.__file__).parent / "conf/hydra/sweeper/optuna.yaml")
    del node["defaults"]
    node.update(sampler={"_target_": "optuna.samplers.TPESampler"}, pruner={})
    for key, value in changed.items():
        OmegaConf.update(node, key.replace("__", "."), value, force_add=True)
    return node


@pytest.mark.parametrize(
    ("key", "value", "refused"),
    [
        ("repeats", 0, "=0: expected a whole number from 1 to 100."),
        ("repeats", True, "=True: expected a whole number from 1 to 100."),
        ("confirm", 1, "=1: expected 0, or the seeds on which the winner is retrained"),
        ("n_jobs", "none", "=none: expected a whole number from 1 to 1,024, or auto: what this"),
        ("n_trials", 1.5, "=1.5: expected a whole number from 1 to 1,000,000."),
        ("n_jobs", 100_000, "=100000: expected a whole number from 1 to 1,024, or auto"),
        ("n_trials", 10**12, "expected a whole number from 1 to 1,000,000."),
        ("retries", -1, "=-1: expected a whole number from 0 to 1000."),
        ("max_failure_rate", 2, "=2: expected 0 to 1."),
        ("trial_minutes", "x", "=x: expected a number above 0."),
        ("budget.minutes", 0, "=0: expected a number above 0."),
        ("budget.minuts", 1, ": there is no such limit. Did you mean minutes? Valid: kwh,"),
        ("budget", 3, "=3: expected limits, such as budget.minutes=30."),
        ("prices.core_watts", -1, "=-1: expected a number from 0 on."),
        ("prices.core_wats", 1, ": there is no such price. Did you mean core_watts?"),
        ("dry_run", "yes", "=yes: expected true or false, or plan: say also what it would cost."),
        ("forecast", 1, "=1: expected true or false."),
        ("on_change", "frok", "Did you mean fork?"),
        ("isolation", "thread", "=thread: expected worker (a process for many trials) or trial"),
        ("direction", ["minimize", "up"], "expected minimize or maximize, or a list of them."),
        ("storage", 3, "=3: expected a path or a database URL."),
        ("ntrials", 3, ": there is no such option. Did you mean n_trials? Valid: allow_sampler,"),
        ("search_space", {"x": 1}, ": this form is no longer read"),
    ],
)
def test_an_option_that_cannot_be_is_refused(key, value, refused):
    with pytest.raises(ConfigError) as error:
        Options.read(given(**{key.replace(".", "__"): value}))
    assert str(error.value).startswith(f"hydra.sweeper.{key}")
    assert refused in str(error.value)


def test_the_defaults_are_valid_and_an_allowed_class_stands_next_to_the_sampler():
    options = Options.read(given(allow_sampler="mine.Mine", budget__minutes=2))
    assert options.sampler[ALLOWED] == ["mine.Mine"]
    assert options.limits(5).n_trials == 5
    assert options.limits(5).stop_at is not None


def test_a_limit_on_what_costs_nothing_is_refused():
    options = Options.read(given(budget__usd=3))
    with pytest.raises(ConfigError, match=r"budget\.usd=3: nothing has a price"):
        options.limits(1)
    assert options.limits(1, charges=True).usd == 3
