"""Samplers: what is proposed does not hang on where a search was cut, nor on who asks."""

import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.common.errors import ConfigError
from pipeline.search.samplers import (
    ALLOWED,
    GRID,
    PRIOR,
    SeededSampler,
    make_sampler,
    sampler_name,
    seed_of,
)
from pipeline.search.space.grammar import parse_space
from pipeline.search.study.budget import Budget
from pipeline.search.study.liveness import OWNER, Heartbeat, Watch
from pipeline.search.study.queue import claim, queue_grid, settle
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import counted

FLOATS = ("x=interval(-5.0,5.0)", "y=interval(-5.0,5.0)")
MIXED = (*FLOATS, "k=range(0,9)", "c=a,b,d")
FINITE = ("x=range(0,4)", "y=-1,0,1")
# Name, options, overrides, trials: enough for several generations, or the whole space.
SAMPLERS = [
    pytest.param("RandomSampler", {}, MIXED, 8, id="random"),
    pytest.param("TPESampler", {"n_startup_trials": 3}, MIXED, 10, id="tpe"),
    pytest.param("GPSampler", {"n_startup_trials": 3}, FLOATS, 7, id="gp"),
    pytest.param("CmaEsSampler", {"warn_independent_sampling": False}, MIXED, 20, id="cmaes"),
    pytest.param("CmaEsSampler", {"with_margin": True, "popsize": 4}, FLOATS, 14, id="cmawm"),
    pytest.param("QMCSampler", {}, MIXED, 8, id="sobol"),
    pytest.param("QMCSampler", {"qmc_type": "halton", "scramble": True}, MIXED, 8, id="halton"),
    pytest.param("PriorSampler", {}, MIXED, 10, id="prior"),
    pytest.param("NSGAIISampler", {"population_size": 4}, MIXED, 14, id="nsgaii"),
    pytest.param("NSGAIIISampler", {"population_size": 4}, MIXED, 14, id="nsgaiii"),
    pytest.param("GridSampler", {}, FINITE, 12, id="grid"),
    pytest.param("BruteForceSampler", {}, FINITE, 12, id="bruteforce"),
]


def spec(
    folder: Path,
    name: str,
    n_trials: int,
    options: dict[str, Any] | None = None,
    overrides: tuple[str, ...] = FLOATS,
    pruner: dict[str, Any] | None = None,
) -> StudySpec:
    module = "pipeline.search.prior" if name == PRIOR else "optuna.samplers"
    return StudySpec(
        name="sphere",
        storage=str(folder / "study.journal"),
        directions=("minimize", "maximize") if name.startswith("NSGA") else ("minimize",),
        space=parse_space(overrides),
        sampler={"_target_": f"{module}.{name}", **(options or {})},
        pruner=pruner or {},
        reported="minimize",
        unit=1,
        seed=1,
        budget=Budget(n_trials),
        max_failure_rate=1.0,
        retries=2,
        trial_seconds=None,
    )


def search(study_spec: StudySpec) -> list[dict[str, Any]]:
    """Run what a start of a search runs, and return all points so far."""
    study = begin(study_spec)
    while (trial := claim(study, study_spec, Heartbeat(study))) is not None:
        score = trial.params["x"] ** 2 + trial.params["y"] ** 2 + trial.params.get("k", 0)
        study.tell(trial, [score, trial.params["x"]][: len(study_spec.directions)])
    return [t.params for t in counted(study)]


def begin(study_spec: StudySpec) -> optuna.Study:
    study = study_spec.open()
    settle(study, study_spec, Watch())
    if study_spec.is_grid:
        queue_grid(study, study_spec)
    return study


def make(options: dict[str, Any], overrides: tuple[str, ...] = FLOATS) -> Any:
    return make_sampler(options, parse_space(overrides), seed=1)


@pytest.mark.parametrize(("name", "options", "overrides", "trials"), SAMPLERS)
def test_cut_and_continued_is_the_uncut_search(working_folder, name, options, overrides, trials):
    uncut = search(spec(working_folder / "uncut", name, trials, options, overrides))
    cut = [
        search(spec(working_folder / "cut", name, most, options, overrides))
        for most in (1, trials // 2, trials)
    ][-1]
    assert cut == uncut
    assert len(uncut) == trials
    if not name.startswith("NSGA"):  # a child may be its parent's copy
        assert len({tuple(p.values()) for p in uncut}) == trials


@pytest.mark.parametrize(("name", "options", "overrides", "trials"), SAMPLERS)
def test_a_killed_trial_changes_nothing(working_folder, name, options, overrides, trials):
    uncut = search(spec(working_folder / "uncut", name, trials, options, overrides))
    cut = spec(working_folder / "cut", name, trials, options, overrides)
    before = trials // 2
    search(spec(working_folder / "cut", name, before, options, overrides))
    study = begin(cut)
    dead = claim(study, cut, Heartbeat(study))
    dead.set_user_attr(OWNER, {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 0})
    found = search(cut)
    assert study.trials[before].state == TrialState.FAIL
    if cut.is_grid:  # its retry is queued behind the other points
        found, uncut = sorted(found, key=str), sorted(uncut, key=str)
    assert found == uncut


def test_brute_force_ends_by_itself_and_gives_no_point_to_two_workers(working_folder):
    brute = spec(working_folder, "BruteForceSampler", 12, overrides=FINITE)
    study = begin(brute)

    def work() -> None:
        own = brute.open()
        while (trial := claim(own, brute, Heartbeat(own))) is not None:
            own.tell(trial, trial.params["x"])

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    points = [(t.params["x"], t.params["y"]) for t in counted(study)]
    assert sorted(points) == [(x, y) for x in range(4) for y in (-1, 0, 1)]


def test_workers_share_one_quasi_random_sequence(working_folder):
    alone = search(spec(working_folder / "alone", "QMCSampler", 8))
    shared = spec(working_folder / "shared", "QMCSampler", 8)
    workers = [begin(shared), begin(shared)]
    trials = [claim(workers[n % 2], shared, Heartbeat(workers[n % 2])) for n in range(8)]
    assert [t.params for t in trials] == alone


def test_grid_does_not_redraw_custom_search_space_values(working_folder):
    drawn = []
    for most in (2, 4):  # each a start of its own
        study = begin(spec(working_folder, "GridSampler", most, overrides=("x=1,2,3,4",)))
        while len(counted(study)) < most:
            trial = study.ask({"x": parse_space(["x=1,2,3,4"]).distributions["x"]})
            drawn.append(trial.suggest_float("z", 0, 1))
            study.tell(trial, 0)
    assert len(set(drawn)) == 4


def test_brackets_of_hyperband_do_not_draw_the_same(working_folder):
    hyperband = {"_target_": "optuna.pruners.HyperbandPruner", "max_resource": 9}
    points = search(spec(working_folder, "RandomSampler", 12, pruner=hyperband))
    assert len({p["x"] for p in points}) == 12


def test_options_that_optuna_ignores_are_left_out_with_one_line(caplog):
    options = {
        "_target_": "optuna.samplers.TPESampler",
        "consider_prior": False,
        "prior_weight": 2.0,
        "consider_endpoints": True,
    }
    make(options)
    make(options)
    assert [r.getMessage() for r in caplog.records if "consider_prior" in r.getMessage()] == [
        "hydra.sweeper.sampler: consider_prior: Optuna 5.0.0 has no such option any more; left out."
    ]
    assert make(options)._sampler._parzen_estimator_parameters.prior_weight == 2.0


def test_motpe_is_tpe():
    motpe = {"_target_": "optuna.samplers.MOTPESampler", "n_ehvi_candidates": 7}
    assert sampler_name(motpe, parse_space(FLOATS)) == "TPESampler"
    assert make(motpe)._sampler._n_ei_candidates == 7


def test_parts_of_a_sampler_are_made_from_their_configs():
    crossover = {"_target_": "optuna.samplers.nsgaii.SBXCrossover", "eta": 3.0}
    nsga = make({"_target_": "optuna.samplers.NSGAIISampler", "crossover": crossover})
    assert nsga._sampler._child_generation_strategy._crossover._eta == 3.0
    inner = {"_target_": "optuna.samplers.RandomSampler", "seed": 5}
    options = {"_target_": "optuna.samplers.CmaEsSampler", "independent_sampler": inner}
    draws = []
    for _ in range(2):  # the same study begun twice
        study = optuna.create_study(sampler=make(options))
        for _ in range(3):
            trial = study.ask()
            draws.append(trial.suggest_categorical("c", list(range(1000))))
            study.tell(trial, 0)
    assert draws[:3] == draws[3:]
    assert len(set(draws)) == 3  # each trial has its own seed, whatever the part's config says


def test_refusals_name_the_option():
    with pytest.raises(ConfigError, match="popsize"):
        make({"_target_": "optuna.samplers.CmaEsSampler", "popsze": 3})
    with pytest.raises(ConfigError, match="NSGAIISampler: `population_size`"):
        make({"_target_": "optuna.samplers.NSGAIISampler", "population_size": 1})
    crossover = {"_target_": "optuna.samplers.nsgaii.NoCrossover"}
    with pytest.raises(ConfigError, match="NoCrossover"):
        make({"_target_": "optuna.samplers.NSGAIISampler", "crossover": crossover})
    part = {"_target_": "os.getcwd"}
    with pytest.raises(ConfigError, match=r"allow_sampler=os\.getcwd"):
        make({"_target_": "optuna.samplers.CmaEsSampler", "independent_sampler": part})


OWN = """
from optuna.samplers import RandomSampler

class Halves(RandomSampler):
    def sample_independent(self, *args):
        return super().sample_independent(*args) / 2

class NoSampler:
    pass
"""


def test_an_own_class_is_run_where_it_is_allowed_by_name(working_folder, monkeypatch):
    (working_folder / "own_samplers.py").write_text(OWN)
    monkeypatch.syspath_prepend(working_folder)
    target = {"_target_": "own_samplers.Halves"}
    with pytest.raises(ConfigError, match=r"hydra.sweeper.allow_sampler=own_samplers\.Halves"):
        make(target)
    assert "own_samplers" not in sys.modules
    assert isinstance(make({**target, ALLOWED: ["own_samplers.Halves"]}), SeededSampler)
    for wrong, said in (
        ("own_samplers.NoSampler", "subclass"),
        ("own_samplers.Missing", "Missing"),
    ):
        with pytest.raises(ConfigError, match=said):
            make({"_target_": wrong, ALLOWED: [wrong]})


def test_a_shuffled_grid_has_the_same_points_in_an_order_of_its_seed(tmp_path):
    def points(seed, **options):
        return list(replace(spec(tmp_path, "GridSampler", 12, options, FINITE), seed=seed).points())

    plain, shuffled = points(1), points(1, shuffle=True)
    assert shuffled != plain
    assert sorted(map(str, shuffled)) == sorted(map(str, plain))
    assert points(1, shuffle=True) == shuffled
    assert points(2, shuffle=True) != shuffled


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("n_startup_trials", "x", "a whole number"),
        ("multivariate", "maybe", "true or false or null"),
        ("prior_weight", "x", "a number or null"),
        ("n_startup_trials", True, "a whole number"),
    ],
)
def test_an_option_of_another_type_is_refused(option, value, expected):
    options = {"_target_": "optuna.samplers.TPESampler", option: value}
    with pytest.raises(ConfigError) as refusal:
        make_sampler(options, parse_space(FLOATS), 1)
    assert str(refusal.value) == f"hydra.sweeper.sampler.{option}={value!r}: expected {expected}."


def test_an_option_of_a_part_of_another_type_is_refused():
    crossover = {"_target_": "optuna.samplers.nsgaii.SBXCrossover", "eta": "abc"}
    with pytest.raises(ConfigError, match=r"sampler\.crossover\.eta='abc': expected a number"):
        make({"_target_": "optuna.samplers.NSGAIISampler", "crossover": crossover})


def test_a_trial_that_a_sampler_fails_at_is_not_left_running(working_folder):
    failing = spec(working_folder, "TPESampler", 3, {"n_startup_trials": 1, "n_ei_candidates": 0})
    with pytest.raises(ConfigError, match="TPESampler cannot propose a trial"):
        search(failing)
    study = failing.open()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]
    assert len(counted(study)) == 1  # it uses up nothing


@pytest.mark.parametrize("seed", ["abc", [1], -1, 1.5, True, 2**32])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(ConfigError, match=r"sampler\.seed=.*: expected a whole number from 0"):
        seed_of({"seed": seed})


def test_an_order_that_is_no_yes_or_no_is_refused():
    with pytest.raises(ConfigError, match=r"sampler\.shuffle=maybe: expected true or false"):
        make_sampler(
            {"_target_": f"optuna.samplers.{GRID}", "shuffle": "maybe"}, parse_space(FINITE), 1
        )
