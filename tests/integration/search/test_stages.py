"""Stages: searches in turn within one study, each from the best trial before it."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import optuna
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from pipeline.common.errors import ConfigError
from pipeline.search.study.trials import FIXED, STAGE, all_params, ended
from pipeline.search.sweeper import SearchFailedError
from tests.support.studies import open_study

RATE = {"space": {"lr": "tag(log,interval(0.001,10.0))"}, "n_trials": 4, "settings": {"rank": 4}}
RANK = {"space": {"rank": [8, 16]}, "narrow": {"lr": 2.0}, "n_trials": 3, "first": [{"rank": 16}]}
DROPOUT = {"space": {"dropout": [0.0, 0.1]}}


def config_of(*stages: Any, **options: Any) -> str:
    """Return the config of a search with stages."""
    defaults = [
        "_self_",
        {"override hydra/sweeper": "optuna"},
        {"override hydra/sweeper/sampler": options.pop("sampler", "auto")},
    ]
    sweeper = {"sampler": {"seed": 1}, "study_name": "staged", "stages": list(stages), **options}
    config = {
        "defaults": defaults,
        "lr": 1.0,
        "rank": 2,
        "dropout": 0.5,
        "hydra": {"sweeper": sweeper},
    }
    return OmegaConf.to_yaml(OmegaConf.create(config))


def loss(cfg: DictConfig) -> float:
    return math.log(cfg.lr / 0.3) ** 2 + 1 / cfg.rank + cfg.dropout


@pytest.fixture
def search(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., optuna.Study]:
    """Search a function by a config; return the study."""

    def run(
        config: str,
        *overrides: str,
        function: Callable[[DictConfig], Any] = loss,
        folder: str = "swept",
    ) -> optuna.Study:
        (working_folder / "config.yaml").write_text(config)
        arguments = ["program.py", "-m", f"hydra.sweep.dir={folder}", *overrides]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        GlobalHydra.instance().clear()
        main = hydra.main(version_base="1.3", config_path=str(working_folder), config_name="config")
        try:
            main(function)()
        finally:
            GlobalHydra.instance().clear()
        return open_study(Path(folder))

    return run


def settled(study: optuna.Study) -> list[tuple[int, dict[str, Any], float]]:
    """Return each complete trial's stage, parameters and score, by number."""
    done = sorted(ended(study, "complete"), key=lambda t: t.number)
    return [(t.user_attrs[STAGE], all_params(t), t.values[0]) for t in done]


def test_each_stage_begins_from_the_best_trial_before_it(search):
    seen = []

    def task(cfg: DictConfig) -> float:
        seen.append({"rank": cfg.rank, "lr": cfg.lr, "dropout": cfg.dropout})
        return loss(cfg)

    study = search(config_of(RATE, RANK, DROPOUT), function=task)
    found = settled(study)
    assert [stage for stage, _, _ in found] == [1] * 4 + [2] * 3 + [3] * 2
    assert [params for _, params, _ in found] == seen  # what is shown is what was run
    assert {params["rank"] for _, params, _ in found[:4]} == {4}
    best = min(found[:4], key=lambda one: one[2])[1]["lr"]
    rates = [params["lr"] for _, params, _ in found[4:7]]
    assert rates[0] == best  # of a first point the narrowed keys have the best values
    assert all(best / 2 <= rate <= best * 2 for rate in rates)
    assert len(set(rates)) == 3
    kept = min(found[:7], key=lambda one: one[2])[1]
    assert [params for _, params, _ in found[7:]] == [{**kept, "dropout": d} for d in (0.0, 0.1)]
    results = OmegaConf.load("swept/optimization_results.yaml")
    assert results.best_params == min(found, key=lambda one: one[2])[1]


def test_a_later_stage_keeps_an_earlier_best_that_its_own_trials_do_not_reach(search):
    worse = {"space": {"dropout": [0.8, 0.9]}}
    study = search(config_of({"space": {"lr": [0.3, 3.0]}}, worse, {"space": {"rank": [4, 8]}}))
    assert [p["dropout"] for _, p, _ in settled(study)] == [0.5, 0.5, 0.8, 0.9, 0.5, 0.5]


def test_a_cut_search_goes_on_as_if_it_had_not_been_cut(search, monkeypatch):
    config = config_of(RATE, RANK, sampler="tpe")
    whole = settled(search(config, folder="whole"))
    left = 0

    def cut_in_trial(cfg: DictConfig) -> float:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return loss(cfg)

    def cut_at(write: str) -> None:
        """Cut the search where it writes to the study what begins the second stage."""
        original = getattr(optuna.Study, write)

        def cut(study: optuna.Study, *args: Any, **options: Any) -> Any:
            if "stage 2" in str(args[0]) or "rank" in args[0]:
                raise KeyboardInterrupt
            return original(study, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(optuna.Study, write, cut)
            with pytest.raises(KeyboardInterrupt):
                search(config)

    def cut_after(trials: int) -> None:
        nonlocal left
        left = trials
        with pytest.raises(KeyboardInterrupt):
            search(config, function=cut_in_trial)

    cut_after(2)
    assert settled(open_study(Path("swept"))) == whole[:2]
    cut_at("set_user_attr")
    cut_at("enqueue_trial")
    assert settled(open_study(Path("swept"))) == whole[:4]
    cut_after(1)
    assert settled(open_study(Path("swept"))) == whole[:5]
    assert settled(search(config)) == whole


def test_a_stage_stays_with_the_trial_that_it_began_from(search):
    began = settled(search(config_of(RATE, {**RANK, "n_trials": 1})))
    more = config_of({**RATE, "n_trials": 5}, {**RANK, "n_trials": 3})
    study = search(more, function=lambda cfg: -100 if cfg.rank == 4 else loss(cfg))
    found = settled(study)
    assert [stage for stage, _, _ in found] == [1] * 4 + [2, 1, 2, 2]
    assert min(found, key=lambda one: one[2]) == found[5]  # a better one than the stage began from
    origin = began[4][1]["lr"]
    assert all(origin / 2 <= p["lr"] <= origin * 2 for s, p, _ in found if s == 2)
    assert not origin / 2 <= found[5][1]["lr"] <= origin * 2


def test_trials_of_one_stage_do_not_count_for_another(search):
    search(config_of(RATE, {**RANK, "n_trials": 1}))
    fewer_and_more = config_of({**RATE, "n_trials": 2}, {**RANK, "n_trials": 3})
    assert [stage for stage, *_ in settled(search(fewer_and_more))] == [1] * 4 + [2] * 3


def test_a_stage_without_a_complete_trial_ends_the_search_with_its_reason(search):
    def no_rank(cfg: DictConfig) -> float:
        if cfg.rank != 4:
            raise ValueError(f"rank {cfg.rank} is not for this model")
        return loss(cfg)

    config = config_of(RATE, RANK, DROPOUT, max_failure_rate=1.0, retries=0)
    for _ in range(2):  # also where nothing is left to be run
        with pytest.raises(SearchFailedError, match="rank 16 is not for this model"):
            search(config, function=no_rank)
    states = [(t.user_attrs[STAGE], t.state.name) for t in open_study(Path("swept")).trials]
    assert states == [(1, "COMPLETE")] * 4 + [(2, "FAIL")] * 3


def test_pruners_compare_the_trials_of_a_stage(search):
    def reported(cfg: DictConfig) -> float:
        from pipeline.search.workers.reporter import report

        report(loss(cfg), 1)
        return loss(cfg)

    worse = {"space": {"rank": [1, 2, 4]}, "settings": {"dropout": 5.0}}
    study = search(
        config_of({"space": {"lr": [0.3, 0.4, 0.5]}}, worse),
        "hydra/sweeper/pruner=median",
        "hydra.sweeper.pruner.n_startup_trials=1",
        function=reported,
    )
    last = [t.state.name for t in study.trials if t.user_attrs[STAGE] == 2]
    assert last == ["COMPLETE"] * 3  # each better than the one before, all worse than stage 1


def test_what_the_command_line_fixes_or_searches_takes_its_place_in_the_stages(search):
    fixed = search(config_of(RATE, RANK), "lr=0.5", folder="fixed")
    assert [t.user_attrs[STAGE] for t in fixed.trials] == [1] * 2  # only ranks are left
    assert {t.user_attrs[FIXED].get("lr") for t in fixed.trials} == {None}
    swept = search(config_of(RATE, RANK), "rank=16,64", "lr=0.2,0.3", folder="swept")
    assert {p["lr"] for s, p, _ in settled(swept) if s == 1} == {0.2, 0.3}
    best = min(settled(swept)[:2], key=lambda one: one[2])[1]["lr"]
    # Around a choice there is nothing: it is kept.
    assert [p for s, p, _ in settled(swept) if s == 2] == [
        {"lr": best, "rank": rank} for rank in (16, 64)
    ]


def test_a_dry_run_checks_every_stage(search, capsys):
    with pytest.raises(OSError, match="study"):  # no journal is there
        search(config_of(RATE, RANK, DROPOUT), "hydra.sweeper.dry_run=true")
    out = capsys.readouterr().out
    assert "9 trials in 3 stages" in out
    assert "stage 2: 3 trials by TPESampler" in out
    assert "within a factor of 2 of the best" in out
    assert "all 9 jobs can be composed and are valid" in out
    assert not Path("swept").exists()


FILTERED = {"space": {"rank": [2, 4]}, "filter": "rank * lr < 3"}


@pytest.mark.parametrize(
    ("stages", "options", "fragments"),
    [
        ([{"settings": {"lr": 1}}], {}, ["stage 1", "nothing to search"]),
        ([RATE, {"narrow": {"lrr": 3}}], {}, ["stage 2", "no stage before", "mean lr?"]),
        ([{"narrow": {"lr": 3}}], {}, ["stage 1", "Searched so far are none"]),
        ([DROPOUT, {"narrow": {"dropout": 2}}], {}, ["stage 2", "not an interval of numbers"]),
        ([RATE, {"space": {"rang": [1, 2]}}], {}, ["stage 2: rang", "mean rank?"]),
        ([{"space": {"rang": [1, 2]}}, RATE], {}, ["stage 1: rang", "mean rank?"]),
        ([DROPOUT, {"space": {"dropout": [0, 2]}}], {}, ["stage 2: dropout", "the same values"]),
        ([RATE, {"space": {"lr": "interval(0.0,1.0)"}}], {}, ["stage 2: lr", "the same scale"]),
        ([RATE, FILTERED], {}, ["stage 2: filter: lr is searched by an earlier stage"]),
        ([RATE, {**RANK, "first": "history"}], {}, ["stage 2: first: history is for the first"]),
        ([RATE], {"direction": ["minimize", "maximize"]}, ["several objectives"]),
        ([RATE], {"custom_search_space": "os.path"}, ["custom_search_space", "one of the two"]),
        ([RATE], {"filter": "lr < 1"}, ["hydra.sweeper.filter", "key filter of a stage"]),
        ([RATE], {"params": {"rank": "1,2"}}, ["hydra.sweeper.params", "key space of a stage"]),
        ([RATE], {"sampler": "grid"}, ["lr has infinitely many values"]),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_trial(search, stages, options, fragments):
    def never(_: DictConfig) -> float:
        raise AssertionError

    with pytest.raises(ConfigError) as refused:
        search(config_of(*stages, **options), function=never)
    text = str(refused.value)
    assert all(fragment in text for fragment in ["hydra", *fragments]), text


def test_other_stages_of_a_named_study_are_refused(search):
    search(config_of(RATE, RANK))
    with pytest.raises(ConfigError, match="stages"):
        search(config_of(RATE, {**RANK, "narrow": {"lr": 3.0}}))
    with pytest.raises(ConfigError, match="no stage searches it"):
        search(config_of(RATE, RANK), "dropout=0.1,0.2")
