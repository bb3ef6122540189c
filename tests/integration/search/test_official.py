"""The examples that hydra-optuna-sweeper documents, with configs in its shape, run by ours."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import optuna
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from pipeline.common.errors import ConfigError, TunewrightError
from pipeline.search.sweeper import SearchFailedError

SPHERE = """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: {sampler}
hydra:
  sweeper:
    direction: minimize
    study_name: sphere
    storage: null
    n_trials: {n_trials}
    n_jobs: 1
    params:
      x: {x}
      y: {y}
x: 1
y: 1
z: 1
"""
MULTI_OBJECTIVE = """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: nsgaii
hydra:
  sweeper:
    sampler:
      seed: 123
      population_size: 4
    direction: [minimize, maximize]
    study_name: multi-objective
    storage: null
    n_trials: 12
    n_jobs: 1
    params:
      x: range(0, 5, step=0.5)
      y: range(0, 3, step=0.5)
x: 1
y: 1
"""
CUSTOM = """
defaults:
  - override hydra/sweeper: optuna
hydra:
  sweeper:
    sampler:
      seed: 123
    direction: minimize
    study_name: custom-search-space
    storage: null
    n_trials: 6
    n_jobs: 1
    params:
      x: range(-5.5, 5.5, 0.5)
      y: choice(-5, 0, 5)
    custom_search_space: spaces.configure
x: 1
y: 1
z: 100
max_z_difference_from_x: 0.5
"""
SPACES = """
def configure(cfg, trial):
    x, most = trial.params["x"], cfg.max_z_difference_from_x
    trial.suggest_float("z", x - most, x + most)
    trial.suggest_float("+w", 0.0, 1.0)
"""
# The options of every sampler that the plugin has, as a config of it may give them.
SAMPLER_OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {
        "consider_prior": True,
        "prior_weight": 1.0,
        "consider_magic_clip": True,
        "consider_endpoints": False,
        "n_startup_trials": 2,
        "n_ei_candidates": 12,
        "multivariate": False,
        "warn_independent_sampling": True,
    },
    "random": {"seed": 1},
    "cmaes": {
        "x0": {"x": 1.0, "y": 1.0},
        "sigma0": 0.5,
        "independent_sampler": None,
        "warn_independent_sampling": True,
        "consider_pruned_trials": False,
        "restart_strategy": None,
        "inc_popsize": 2,
        "use_separable_cma": True,
        "source_trials": None,
    },
    "nsgaii": {
        "population_size": 2,
        "mutation_prob": None,
        "crossover_prob": 0.9,
        "swapping_prob": 0.5,
        "constraints_func": None,
    },
    "nsgaiii": {"population_size": 2, "dividing_parameter": 2, "reference_points": [[1.0]]},
    "motpe": {"n_startup_trials": 2, "n_ehvi_candidates": 12, "consider_prior": True},
    "gp": {"n_startup_trials": 2, "deterministic_objective": True},
    "qmc": {"qmc_type": "halton", "scramble": True, "warn_asynchronous_seeding": True},
}


def sphere(cfg: DictConfig) -> float:
    return float(cfg.x**2 + cfg.y**2)


def binh_and_korn(cfg: DictConfig) -> tuple[float, float]:
    return 4 * cfg.x**2 + 4 * cfg.y**2, cfg.x - cfg.y


@pytest.fixture
def sweep(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    """Run a Hydra program with a config file and overrides; return the params its jobs had."""

    def run(
        config: str, *overrides: str, function: Callable[[DictConfig], Any] = sphere
    ) -> list[dict[str, Any]]:
        (working_folder / "config.yaml").write_text(config)
        seen: list[dict[str, Any]] = []

        def task(cfg: DictConfig) -> Any:
            seen.append({str(k): v for k, v in cfg.items()})
            return function(cfg)

        arguments = ["program.py", "-m", "hydra.sweep.dir=swept", *overrides]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # errors as they are, not an exit code
        GlobalHydra.instance().clear()
        main = hydra.main(version_base="1.3", config_path=str(working_folder), config_name="config")
        try:
            main(task)()
        finally:
            GlobalHydra.instance().clear()
        return seen

    return run


def results() -> DictConfig:
    loaded = OmegaConf.load("swept/optimization_results.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


def filled(x: str, y: str, sampler: str = "tpe", n_trials: int = 8) -> str:
    return SPHERE.format(x=x, y=y, sampler=sampler, n_trials=n_trials)


@pytest.mark.parametrize(
    ("x", "y", "allowed"),
    [
        ("interval(-5.5, 5.5)", "interval(-5, 5)", lambda p: -5.5 <= p["x"] <= 5.5),
        ("choice(-5, 0, 5)", "interval(0, 1)", lambda p: p["x"] in (-5, 0, 5)),
        ("range(-3, 3)", "range(0.5, 5.5, step=1)", lambda p: p["x"] in range(-3, 3)),
        ("tag(log, interval(1, 5))", "int(interval(1, 5))", lambda p: p["y"] in range(1, 6)),
        ("tag(log, int(interval(1, 100)))", "shuffle(range(1, 3))", lambda p: p["y"] in (1, 2)),
    ],
)
def test_every_form_of_params(sweep, x, y, allowed):
    seen = sweep(filled(x, y))
    assert len(seen) == 8
    assert all(allowed(params) for params in seen)
    best = results()
    assert best.name == "optuna"
    assert best.best_value == min(p["x"] ** 2 + p["y"] ** 2 for p in seen)
    assert best.best_value == best.best_params.x**2 + best.best_params.y**2


def test_command_line_overrides_the_config(sweep):
    seen = sweep(filled("interval(-5.5, 5.5)", "choice(1, 2)"), "x=choice(0, 1, 2)", "y=0", "~z")
    assert {p["x"] for p in seen} <= {0, 1, 2}
    assert {p["y"] for p in seen} == {0}
    assert not any("z" in p for p in seen)
    assert set(results().best_params) == {"x"}


def test_a_grid(sweep):
    seen = sweep(filled("range(-1, 1, step=0.5)", "choice(-5, 0, 5)", "grid", 20))
    points = [(p["x"], p["y"]) for p in seen]
    assert sorted(points) == [(x, y) for x in (-1.0, -0.5, 0.0, 0.5) for y in (-5, 0, 5)]


def test_several_objectives(sweep):
    sweep(MULTI_OBJECTIVE, function=binh_and_korn)
    solutions = results().solutions
    values = [tuple(s["values"]) for s in solutions]
    assert values == [binh_and_korn(s.params) for s in solutions]
    for a in values:
        assert not any(b != a and b[0] <= a[0] and b[1] >= a[1] for b in values)


def test_a_custom_search_space(sweep, working_folder, monkeypatch):
    (working_folder / "spaces.py").write_text(SPACES)
    monkeypatch.syspath_prepend(working_folder)
    monkeypatch.delitem(sys.modules, "spaces", raising=False)
    seen = sweep(CUSTOM, "max_z_difference_from_x=0.3")
    assert all(abs(p["x"] - p["z"]) <= 0.3 and 0 <= p["w"] <= 1 for p in seen)
    assert len({p["w"] for p in seen}) == 6
    assert set(results().best_params) == {"x", "y", "z", "+w"}


@pytest.mark.parametrize(("rate", "trials"), [(0.0, 2), (0.5, 6)])
def test_max_failure_rate(sweep, rate, trials):
    def second_fails(cfg: DictConfig) -> float:
        if cfg.x == 2:
            raise RuntimeError("cfg.error is True")
        return sphere(cfg)

    given = (f"hydra.sweeper.max_failure_rate={rate}",)
    config = filled("1,2,3,4,5,6", "0", "grid", 6)
    if rate == 0.0:
        with pytest.raises(SearchFailedError, match="1 of 2"):
            sweep(config, *given, function=second_fails)
    else:
        assert len(sweep(config, *given, function=second_fails)) == 6
    states = [t.state for t in stored("swept/study.journal").trials if t.state.is_finished()]
    assert len(states) == trials
    assert states[1] == TrialState.FAIL
    assert results().best_params.x == 1  # written though the search was given up


def test_a_pruned_trial_is_no_failure(sweep):
    def first_pruned(cfg: DictConfig) -> float:
        if cfg.x == 1:
            raise optuna.TrialPruned
        return sphere(cfg)

    assert len(sweep(filled("1,2,3", "0", "grid", 3), function=first_pruned)) == 3
    states = [t.state for t in stored("swept/study.journal").trials]
    assert states == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE]


def stored(journal: str) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(journal)
    return optuna.load_study(study_name="sphere", storage=optuna.storages.JournalStorage(backend))


def test_storage_and_study_name(sweep, working_folder):
    url = f"sqlite:///{working_folder / 'mine.db'}"
    given = (f"hydra.sweeper.storage='{url}'", "hydra.sweeper.study_name=named")
    config = filled("interval(-5.5, 5.5)", "choice(0, 1)", n_trials=5)
    assert len(sweep(config, *given)) == 5
    study = optuna.load_study(study_name="named", storage=url)
    assert len(study.trials) == 5
    assert results().best_value == study.best_value
    assert len(sweep(config, *given, "hydra.sweeper.n_trials=7")) == 2  # n_trials is the total
    assert sorted(int(p.name) for p in Path("swept").iterdir() if p.name.isdigit()) == [*range(7)]


@pytest.mark.parametrize("sampler", SAMPLER_OPTIONS)
def test_every_sampler_with_the_options_that_plugin_has(sweep, sampler):
    config = OmegaConf.create(filled("interval(-5.5, 5.5)", "interval(-5, 5)", sampler, 4))
    config.hydra.sweeper.sampler = SAMPLER_OPTIONS[sampler]
    assert len(sweep(OmegaConf.to_yaml(config))) == 4


def test_the_search_space_of_version_1_1_is_refused_with_what_to_write(sweep):
    config = OmegaConf.create(filled("0", "0"))
    config.hydra.sweeper.search_space = {"x": {"type": "float", "low": -5.5, "high": 5.5}}
    with pytest.raises(ConfigError, match=r"search_space.*x: interval\(-5\.5, 5\.5\)"):
        sweep(OmegaConf.to_yaml(config))


def test_an_own_sampler_is_refused_unless_it_is_named(sweep, working_folder, monkeypatch):
    (working_folder / "mine.py").write_text(
        "from optuna.samplers import RandomSampler\nclass Mine(RandomSampler): ...\n"
    )
    monkeypatch.syspath_prepend(working_folder)
    config = filled("interval(0, 1)", "0", "random", 3)
    own = "hydra.sweeper.sampler._target_=mine.Mine"
    with pytest.raises(TunewrightError, match=r"allow_sampler=mine\.Mine"):
        sweep(config, own)
    assert len(sweep(config, own, "hydra.sweeper.allow_sampler=mine.Mine")) == 3
