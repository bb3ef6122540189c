"""What the report page shows of a study, says it cannot show, and must not hold."""

import base64
import hashlib
import re

import optuna
import pytest
from optuna.trial import TrialState

from pipeline.analysis.report import About, study_page
from pipeline.common.secrets import masked
from pipeline.search.optuna_parts import report_step
from pipeline.search.study.trials import PAUSED_AT
from tests.support.pages import Reader

EVIL = "<script>alert('$x$')</script>"
PROMOTE = {"_target_": "pipeline.search.pruners.PauseAndPromote", "min_resource": 0.5}


def made(count: int, objectives: int = 1) -> optuna.Study:
    """Return a study in memory; of four trials one is pruned, one failed, and two are complete."""
    directions = ["maximize", "minimize"][:objectives]
    study = optuna.create_study(
        study_name=f"tweets {EVIL}",
        directions=directions,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    for number in range(count):
        trial = study.ask()
        rate = trial.suggest_float("optimizer.learning_rate", 1e-5, 1e-2, log=True)
        optimizer = trial.suggest_categorical("optimizer", ["sgd", EVIL])
        if optimizer == "sgd":
            trial.suggest_float("optimizer.momentum", 0.0, 0.99)
        trial.suggest_categorical("seed", [42])
        trial.set_user_attr("run_id", f"run-of-{number}")
        trial.set_user_attr("overrides", [f"optimizer.learning_rate={rate}", "data.train=a b.csv"])
        for step in (50, 100, 150):
            report_step(study, trial, step, step * rate)
        if number % 4 == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 4 == 2:
            trial.set_user_attr("reason", f"error: ValueError: {EVIL}")
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [100 * rate, float(number)][:objectives])
    return study


def page_of(study: optuna.Study, *objectives: str, pruner=None) -> str:
    return study_page(study, About(objectives or ("val/f1_macro",), "complete", pruner or {}))


def test_page_shows_figures_of_the_study():
    study = made(40)
    waiting = study.ask()
    report_step(study, waiting, 50, 0.1)
    waiting.set_user_attr(PAUSED_AT, 50)
    page = Reader(page_of(study, pruner=PROMOTE))
    assert "20 complete · 10 pruned · 10 failed · 1 paused" in page.text
    best = study.best_trial
    assert f"Best: trial {best.number}" in page.text
    assert f"MLflow run run-of-{best.number}" in page.text
    rate = best.params["optimizer.learning_rate"]
    assert f"tunewright train optimizer.learning_rate={rate} 'data.train=a b.csv'" in page.text
    head, _, _ = page.section("Best trials").partition("tunewright train")
    assert "momentum" in head
    assert "seed" not in head  # it does not vary
    assert "The best 10 of the 20" in head
    assert f"error102error: ValueError: {EVIL}" in page.section("Failures")
    charts = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert len(charts) == 5  # history, importances, parallel coordinates, slices, curves
    assert {"best so far", "pruned", "paused", "epochs"} <= set(re.findall(r"[\w ]+", page.text))


def test_the_page_is_escaped_and_asks_for_nothing():
    page = page_of(made(40), pruner=PROMOTE)
    tags = Reader(page).tags
    assert not {tag for tag, _ in tags} & {"link", "iframe", "object", "base"}
    (script,) = re.findall("<script.*?>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in page  # no other one can run
    asked = [v for _, attrs in tags for k, v in attrs.items() if k.endswith(("src", "href"))]
    assert asked
    assert all(v.startswith(("#", "data:")) for v in asked)
    assert not any(k.startswith("on") for _, attrs in tags for k in attrs)
    assert not re.search(r"url\((?!#)|@import", page)
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))  # or one chart would be drawn with another's marks


def test_marks_say_which_trial_they_are():
    study = made(40)
    page = page_of(study)
    scores = {t.number: t.values[0] for t in study.trials if t.state == TrialState.COMPLETE}
    history, *_ = re.findall("<svg.*?</svg>", page, re.DOTALL)
    marks = re.findall(r'<use [^>]* y="(.*?)"[^>]*><title>trial (\d+): ([^,]*), opt', history)
    shown = {int(number): float(height) for height, number, _ in marks}
    complete = sorted(scores, key=scores.__getitem__, reverse=True)
    assert sorted(complete, key=shown.__getitem__) == complete  # the best one is at the top
    assert {int(n): s for _, n, s in marks if int(n) in scores} == {
        n: f"{score:.4g}" for n, score in scores.items()
    }
    tips = Reader(page).text.count(f"trial {study.best_trial.number}: ")
    assert tips == 8  # history, two lines of parallel coordinates, two slices with two dots, curve


def test_several_objectives_have_a_front():
    study = made(40, objectives=2)
    study.tell(study.ask(), [1e6, 1e6])  # the best by the first, and without any parameter
    page = Reader(page_of(study, "val/f1_macro", "cost/train_seconds"))
    numbers = ", ".join(str(t.number) for t in sorted(study.best_trials, key=lambda t: t.values))
    assert f"beats these in every objective: {numbers}." in page.section("Pareto front")
    assert "Best: trial 40, by the objectives in their order" in page.text


def test_a_front_is_of_the_trials_that_keep_their_constraints():
    study = made(8, objectives=2)
    too_large = study.ask()
    too_large.set_constraint("oom", 1.0)
    study.tell(too_large, [1e6, 0.0])
    page = Reader(page_of(study, "val/f1_macro", "cost/train_seconds"))
    assert "8" not in page.section("Pareto front").partition("objective:")[2].partition(".")[0]
    assert "oom by 1" in page.text


@pytest.mark.parametrize("count", [0, 1, 3])
def test_page_says_what_it_cannot_show(count):
    page = Reader(page_of(made(count)))
    assert "Not shown: " in page.section("Parameter importances")
    assert ("No trial is complete." in page.text) == (count == 0)


def test_a_page_of_many_trials_stays_small():
    assert len(page_of(made(50))) < 500_000
    assert len(page_of(made(300))) < 500_000


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("/a/study.journal", "/a/study.journal"),
        ("sqlite:///study.db", "sqlite:///study.db"),
        ("postgresql+psycopg://me:pw@host/db", "postgresql+psycopg://me:***@host/db"),
        ("mysql://host/db?ssl=1&password=pw", "mysql://host/db?ssl=1&password=***"),
    ],
)
def test_a_storage_is_recorded_without_its_secrets(storage, shown):
    assert masked(storage) == shown
