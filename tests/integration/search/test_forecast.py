"""Forecasts: what a search costs is said before it begins, and what it did cost beside it."""

import json
import re
from pathlib import Path

import pytest

from pipeline.jobs import trial
from pipeline.search import forecasts, spending
from pipeline.search.cost import forecast
from tests.support.stores import artifact, cost_of

SWEEP = ("-m", "training.batch_size=8,16", "hydra.sweeper.forecast=true")


def disk_of(trials) -> int:
    """Return the bytes of trials' artifacts and models."""
    folders = [artifact(run, name) for run in trials for name in ("", "model")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def test_sweep_forecasts_its_cost_and_reports_the_actual(cli, tiny, runs):
    ended = cli("train", *SWEEP, *tiny, "hydra.sweeper.prices.usd_per_core_hour=100")
    assert ended.code == 0, ended.err
    assert re.search(r"^forecast: .* MB on disk, .* Wh \(estimated .*\), .* USD", ended.out, re.M)
    assert re.search(r"^forecast .*, took .* \([-+]\d+%\)$", ended.out, re.M)
    (study,) = runs("study")
    metrics, expected = study.data.metrics, cost_of(study)["forecast"]
    assert metrics["time/run_seconds"] > 0
    assert metrics["forecast/seconds"] == expected["seconds"]
    assert metrics["spent/machine_seconds"] == pytest.approx(
        metrics["spent/kwh"] / expected["kwh"] * expected["machine_seconds"]
    )
    assert metrics["spent/disk"] == disk_of(runs("trial"))


@pytest.mark.parametrize(
    ("space", "timed"), [((), 0), (("optimizer=adamw,sgd",), 4)], ids=["alike", "unlike"]
)
def test_steps_are_timed_before_the_trials_only_if_they_differ(
    cli, tiny, runs, monkeypatch, space, timed
):
    asked, known = [], trial.run_costs
    monkeypatch.setattr(trial, "run_costs", lambda some: asked.extend(some) or known(some))
    ended = cli("train", *SWEEP, *tiny, *space, "hydra.sweeper.n_jobs=1")
    assert ended.code == 0, ended.err
    assert len(asked) == timed
    assert len(re.findall(r"^forecast: ", ended.out, re.M)) == 1
    assert cost_of(runs("study")[0])["forecast"]["machine_seconds"] > 0


def test_a_plan_runs_nothing_and_opens_no_study(cli, tiny):
    ended = cli("plan", *SWEEP[1:], *tiny, "hydra.sweeper.n_jobs=1")
    assert ended.code == 0, ended.err
    assert "2 trials by GridSampler" in ended.out
    assert re.search(r"^forecast: ", ended.out, re.M)
    assert '"products"' in Path("mlruns/cache/machine.json").read_text()  # before any worker
    assert not Path("mlruns/studies").exists()
    assert not Path("mlruns/mlflow.db").exists()


@pytest.mark.parametrize("limit", ["kwh=1e-9", "usd=1e-9"])
def test_a_budget_ends_a_study_cleanly(cli, tiny, limit):
    priced = ("hydra.sweeper.prices.usd_per_core_hour=1", f"hydra.sweeper.budget.{limit}")
    ended = cli("train", *SWEEP, *tiny, *priced)
    assert ended.code == 0, ended.err
    assert f"budget.{limit.split('=')[0]} are used up" in ended.out
    assert "1 of 2 trials done, 0 failed" in ended.out


def test_invalid_budget_is_refused(cli, tiny):
    ended = cli("train", *SWEEP, *tiny, "hydra.sweeper.budget.usd=5")
    assert ended.code == 2
    assert "hydra.sweeper.prices.usd_per_core_hour" in ended.err
    ended = cli("train", *SWEEP, *tiny, "+hydra.sweeper.prices.core_wats=5")
    assert ended.code == 2
    assert "Did you mean core_watts?" in ended.err


def test_the_data_is_looked_over_before_the_first_trial(cli, tiny, runs):
    lines = Path("reviews.jsonl").read_text().splitlines()
    Path("reviews.jsonl").write_text("\n".join([*lines, lines[0], ""]))
    ended = cli("train", *SWEEP, *tiny)
    assert re.search(r"^data: 0 errors, .* 1 note", ended.out, re.M), ended.out
    (study,) = runs("study")
    report = json.loads(artifact(study, "check.json").read_text())
    assert [f["kind"] for f in report["findings"]].count("duplicate") == 1
    assert "rows of train" in artifact(study, "check.html").read_text()
    again = cli("train", *SWEEP, *tiny)
    spent = runs("study")[0].data.metrics["spent/disk"]  # of all trials, though none ran now
    assert spent == disk_of(runs("trial")) > 0
    told = [next(li for li in e.out.splitlines() if li.startswith("data:")) for e in (ended, again)]
    assert told[0] == told[1]


def test_energy_from_sensors_is_reported_as_measured(cli, tiny, runs, monkeypatch):
    """On a machine without sensors CodeCarbon estimates, which stands for a measurement here."""
    monkeypatch.setattr(spending, "has_sensors", lambda: True)
    ended = cli("train", *SWEEP, *tiny)
    assert "Wh (measured)" in ended.out
    (study,) = runs("study")
    assert study.data.metrics["spent/kwh"] > 0
    assert cost_of(study)["spent"]["is_measured"]


def test_all_trials_of_a_sampler_are_counted_though_some_were_asked_for(cli, tiny, monkeypatch):
    counted = []

    def noted(costs, *more, **named):
        counted.extend(map(len, costs))
        return forecast(costs, *more, **named)

    monkeypatch.setattr(forecasts, "forecast", noted)
    space = ("optimizer.learning_rate=interval(1e-4,1e-3)", "hydra.sweeper.n_trials=12")
    assert cli("plan", *tiny, *space, "hydra.sweeper.n_jobs=1").code == 0
    assert counted == [12]
