"""The prior-guided sampler: begins at the config's own point, keeps to it while it does well."""

import math
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.common.errors import ConfigError
from pipeline.search.prior import PriorSampler
from pipeline.search.samplers import make_sampler
from pipeline.search.space.centre import centred, check_given
from pipeline.search.space.conditions import Base
from pipeline.search.space.dimension import Condition
from pipeline.search.space.filters import read_filter
from pipeline.search.space.grammar import parse_space
from pipeline.search.space.space import Space
from pipeline.search.study.standing import standings
from pipeline.search.study.trials import KILLED, PAUSED_AT

OPTIONS = {"_target_": "pipeline.search.prior.PriorSampler"}
CENTRE = {"lr": 5e-5, "batch": 16, "opt": "adamw", "momentum": 0.9}


def space(*further: str, centre: dict = CENTRE, **more: object) -> Space:
    overrides = ["lr=tag(log,interval(1e-6,1e-3))", "batch=8,16,32", "opt=adamw,sgd", *further]
    return replace(parse_space(overrides), centre=centre, **more)


def rich() -> Space:
    whole = space("momentum=interval(0.0,0.95)", "layers=range(2,13,2)", "rank=int(interval(1,64))")
    opened = [
        replace(d, when=Condition("opt", ("sgd",))) if d.key == "momentum" else d
        for d in whole.dimensions
    ]
    return replace(whole, dimensions=tuple(opened), filter=read_filter("batch * layers <= 200"))


def study_of(own: Space, seed: int = 1, **options: object) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=make_sampler({**OPTIONS, **options}, own, seed))


def ask(study: optuna.Study, own: Space) -> optuna.Trial:
    trial = study.ask(own.unconditional)
    while opened := own.opened(trial.params):
        trial._suggest(opened.key, opened.distribution)
    return trial


@settings(max_examples=10, deadline=None)
@given(st.lists(st.one_of(st.floats(-1, 1), st.none()), max_size=8), st.integers(0, 2**31))
def test_every_proposal_lies_in_the_space_and_is_that_of_its_place(scores, seed):
    own = rich()
    one, two = study_of(own, seed), study_of(own, seed)
    for score in scores:
        trial, twin = ask(one, own), ask(two, own)
        assert trial.params == twin.params
        assert own.allows(trial.params)
        assert ("momentum" in trial.params) == (trial.params["opt"] == "sgd")
        for study, told in ((one, trial), (two, twin)):
            if score is None:
                study.tell(told, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(told, score)
    points = [tuple(t.params.items()) for t in one.trials]
    assert len(set(points)) == len(points)


def test_first_proposal_is_the_centre_also_of_several_workers():
    own = space()
    study = study_of(own)
    found = [ask(study, own).params for _ in range(4)]  # none has ended
    centre = {key: CENTRE[key] for key in ("lr", "batch", "opt")}
    assert [p == centre for p in found] == [True, False, False, False]


def test_a_worker_that_has_said_one_of_its_parameters_has_the_centre_already():
    own = space()
    study = study_of(own)
    study.ask()._suggest("lr", own.distributions["lr"])
    assert ask(study, own).params["lr"] != CENTRE["lr"]


def test_centre_is_proposed_again_where_its_process_died_before_it_said_so():
    own = space()
    study = study_of(own)
    ask(study, own)
    study._storage.set_trial_user_attr(study.trials[0]._trial_id, KILLED, True)
    assert ask(study, own).params["lr"] == CENTRE["lr"]


def test_a_point_that_is_queued_in_part_gets_the_centre_for_its_rest():
    own = space()
    study = study_of(own)
    study.enqueue_trial({"opt": "sgd"})
    assert ask(study, own).params == {"lr": 5e-5, "batch": 16, "opt": "sgd"}


def test_a_finite_space_is_tried_to_its_end_before_a_point_comes_twice():
    own = replace(parse_space(["a=1,2,3", "b=x,y"]), centre={"a": 2, "b": "x"})
    study = study_of(own)
    study.optimize(lambda t: ask_all(t, own)["a"], 7)
    assert len({tuple(t.params.items()) for t in study.trials[:6]}) == 6


@pytest.mark.parametrize("centre", [5e-5, 1e-6])  # 1e-6: the end of the range
def test_no_proposal_lies_beside_one_that_was_tried(centre):
    own = replace(parse_space(["lr=tag(log,interval(1e-6,1e-3))"]), centre={"lr": centre})
    study = study_of(own)
    study.optimize(lambda t: abs(math.log(ask_all(t, own)["lr"] / centre)), 15)
    rates = sorted(t.params["lr"] for t in study.trials)
    nearest = min(high / low for low, high in pairwise(rates))
    assert nearest > 1e3 ** (0.2 / 8)  # an eighth of the width, on the logarithm of the range


def ask_all(trial: optuna.Trial, own: Space) -> dict:
    return {d.key: trial._suggest(d.key, d.distribution) for d in own.dimensions}


@settings(max_examples=20)
@given(st.integers(0, 40), st.lists(st.floats(0, 1), max_size=5))
def test_shares_make_a_whole(scored, best):
    own = replace(parse_space(["x=interval(0.0,1.0)"]), centre={"x": 0.3})
    shares = PriorSampler(own).shares(max(scored, len(best)), [(x,) for x in best])
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0


def test_best_trials_far_from_the_centre_take_the_share_of_the_prior():
    sampler = PriorSampler(replace(parse_space(["x=interval(0.0,1.0)"]), centre={"x": 0.2}))
    right, wrong = sampler.shares(9, [(0.2,), (0.25,)]), sampler.shares(9, [(0.9,), (0.8,)])
    assert right == pytest.approx((0.25, 0.375, 0.375), abs=0.03)
    assert wrong == pytest.approx((0.25, 0.0, 0.75), abs=0.01)
    assert sampler.shares(1, []) == (1, 0, 0)  # the centre ran out of memory


def test_trials_that_came_further_are_better_and_broken_ones_the_worst():
    study = optuna.create_study(direction="maximize")
    reports: dict = {0: [0.3, 0.6], 1: [0.5], 2: [0.7], 3: [0.4, 0.5], 4: [], 5: [0.9]}
    for number, scores in reports.items():
        trial = study.ask()
        for step, value in enumerate(scores):
            trial.report(value, step)
        if number == 2:
            trial.set_user_attr(PAUSED_AT, 0)
        elif number == 4:
            trial.set_constraint("oom", 1.0)
        if number not in (0, 2, 5):  # which is complete, waits and runs
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    study.tell(0, 0.1)
    standing = standings(study.trials, "maximize", "maximize")
    order = sorted(standing, key=lambda number: standing[number][0])
    assert order == [0, 3, 2, 1, 4]
    assert [share for share, _ in map(standing.get, order)] == [0, 0.25, 0.5, 0.75, 1]
    assert [may_win for _, may_win in map(standing.get, order)] == [True] * 4 + [False]


def base(own: Space, config: dict) -> Base:
    def load(overrides: list[str]) -> OmegaConf:
        node = OmegaConf.merge({"hydra": {"runtime": {"choices": {}}}}, config)
        return OmegaConf.merge(node, OmegaConf.from_dotlist(overrides))

    return Base(load, own.fixed, lambda _: None)


@pytest.mark.parametrize(
    ("config", "centre"),
    [
        ({"lr": 1e-4, "batch": 16, "opt": "sgd"}, {"lr": 1e-4, "batch": 16, "opt": "sgd"}),
        ({"lr": 1.0, "batch": 20, "opt": "other"}, {"lr": 1e-3, "batch": 16}),
        ({"lr": "???", "batch": 1, "opt": None}, {"batch": 8}),
        ({"lr": "auto", "batch": None, "opt": "${batch}"}, {"lr": 2e-5}),
        ({"lr": "${nowhere}", "batch": 64.0}, {"batch": 32}),
    ],
)
def test_centre_is_the_nearest_to_what_the_config_has(config, centre):
    own = space(centre={})
    assert centred(own, base(own, config), lambda *_: 2e-5, {}).centre == centre


def test_centre_has_what_is_given_instead_of_the_configs_own():
    own = space(centre={})
    config = base(own, {"lr": 1e-4, "batch": 16, "opt": "sgd"})
    given = {"lr": "auto", "opt": "adamw"}
    found = centred(own, config, lambda config, _: {"adamw": 3e-5}[config.opt], given).centre
    assert found == {"lr": 3e-5, "batch": 16, "opt": "adamw"}
    with pytest.raises(ConfigError, match=r"centre: btch is not searched\. Did you mean batch"):
        check_given({"btch": 8}, ["lr", "batch"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"opt": "sdg", "lr": 1e-4}, r"centre: opt=sdg is not in its space, .*sgd"),
        ({"lr": math.nan}, "centre: lr=nan is not in its space"),
        ({"lr": 1}, "centre: lr=1 is not in its space"),
        ({"batch": 12}, "centre: batch=12 is not in its space, 8, 16, 32"),
        ({"batch": True}, "centre: batch=true is not in its space"),
        ({"batch": "lots"}, "centre: batch=lots is not in its space, .*8, 16"),
    ],
)
def test_a_given_centre_that_cannot_be_is_refused(given, said):
    own, rates = space(centre={}), {"lr": 1e-4}
    config = base(own, {"lr": 1e-4, "batch": 16, "opt": "sgd"})
    with pytest.raises(ConfigError, match=said):
        centred(own, config, lambda _, key: rates.get(key), given)


def test_a_config_without_any_value_is_refused():
    own, empty = space(centre={}), dict.fromkeys(("lr", "batch", "opt"))
    with pytest.raises(ConfigError, match=r"sampler=prior: .* of lr, batch, opt"):
        centred(own, base(own, empty), lambda *_: None, {})
    # A key that the config lacks is refused later, for that.
    assert centred(own, base(own, {}), lambda *_: None, {}).centre == {}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("width", 3.0, r"width=3\.0: expected a share of a range"),
        ("eta", 1.0, r"eta=1\.0: expected a number above 1"),
        ("eta", "x", r"sampler\.eta='x': expected a number"),
        (
            "space",
            1,
            r"sampler\.space: PriorSampler has no such option.* Valid: seed, width, eta, centre",
        ),
    ],
)
def test_a_bad_option_is_refused(option, value, said):
    with pytest.raises(ConfigError, match=said):
        make_sampler({**OPTIONS, option: value}, space(), 1)


def regrets(options: dict, centre_off: float, trials: int = 8, searches: int = 10) -> list[float]:
    """Return the mean regret after each trial; the centre is so many tens off the best rate."""
    best = []
    for seed in range(searches):
        top = -5.0 + seed / searches  # the logarithm of the best rate
        own = space("other=interval(0.0,1.0)", centre={"lr": 10 ** (top + centre_off), "batch": 16})
        study = optuna.create_study(sampler=make_sampler(options, own, seed))

        def loss(trial: optuna.Trial, own=own, top=top) -> float:
            params = ask_all(trial, own)
            off = math.log10(params["lr"]) - top
            noise = 0.01 * math.sin(1e4 * params["lr"] + params["batch"])
            return min((off / 0.8) ** 2, 1.0) + 0.01 * (params["batch"] != 16) + noise

        study.optimize(loss, trials)
        scores = [t.value for t in study.trials]
        best.append([min(scores[: n + 1]) for n in range(trials)])
    return [fmean(column) for column in zip(*best, strict=True)]


def test_a_right_prior_saves_most_trials_and_the_worst_one_costs_few():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    evenly = regrets({"_target_": "optuna.samplers.RandomSampler"}, 0.0)
    assert regrets(OPTIONS, 0.4)[4] < 0.5 * evenly[4]  # 2.5 times the best rate
    assert regrets(OPTIONS, 9.0, 10)[9] <= 1.2 * evenly[7]  # the upper end of the range
