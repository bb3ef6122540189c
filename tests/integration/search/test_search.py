"""Searches: one parent and its trials in MLflow, exhaustive grids, failures that stay one trial."""

import json
import re
from pathlib import Path

import pytest

from pipeline.common.session import session
from pipeline.jobs.trial import ExperimentTask
from pipeline.tasks.classification import Classification
from tests.support.rows import rows, write_rows
from tests.support.stores import artifact

GRID = ("optimizer.learning_rate=1e-3,1e-2", "training.batch_size=8,16")


def test_several_values_make_an_exhaustive_grid_under_one_parent(cli, tiny, runs):
    ended = cli("train", "-m", *tiny, *GRID)
    assert ended.code == 0, ended.err
    assert "a grid of 4 points" in ended.out
    (study,), trials = runs("study"), runs("trial")
    keys = [g.partition("=")[0] for g in GRID]
    assert len({tuple(t.data.params[k] for k in keys) for t in trials}) == len(trials) == 4
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {study.info.run_id}
    assert {t.info.status for t in [study, *trials]} == {"FINISHED"}
    scores = [t.data.metrics["val/f1_macro"] for t in trials]
    best = trials[scores.index(max(scores))]
    assert study.data.tags["tunewright.best_run_id"] == best.info.run_id
    models = [artifact(t, "model").is_dir() for t in trials]
    assert models == [t is best for t in trials]  # only the best keeps its model
    table = artifact(study, "trials.csv").read_text()
    assert len(table.splitlines()) == 5

    # The command that `best` prints makes the same run.
    shown = cli("best", study.data.tags["tunewright.study"]).out
    again = shown.split("tunewright train ")[1].split()
    cli("train", *again)
    (run,) = runs("run")
    assert f"= {run.data.metrics['val/f1_macro']:.4f}" in shown


def test_a_trial_that_fails_is_one_failed_trial(cli, tiny, runs, monkeypatch):
    load = Classification.load_model

    def sometimes(self):
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        model = load(self)
        if len(calls) == 2:
            model.classifier.weight.data.fill_(float("nan"))
        if len(calls) == 3:
            raise SystemExit(3)
        return model

    calls: list[None] = []
    monkeypatch.setattr(Classification, "load_model", sometimes)
    ended = cli("train", "-m", *tiny, "seed=1,2,3,4")
    assert ended.code == 0, ended.err
    assert "4 of 4 trials done, 3 failed" in ended.out
    trials = runs("trial")
    kinds = [t.data.tags.get("tunewright.reason", "").split(":")[0] for t in trials]
    assert kinds == ["oom", "diverged", "stopped", ""]
    assert [t.info.status for t in trials] == ["FAILED", "FAILED", "FAILED", "FINISHED"]


def test_a_search_in_which_every_trial_fails_ends_with_an_error(cli, tiny, runs, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such device")

    monkeypatch.setattr(Classification, "load_model", broken)
    ended = cli("train", "-m", *tiny, "seed=1,2")
    assert ended.code == 1
    assert "no such device" in ended.err
    log = artifact(runs("trial")[0], "sweep.log").read_text()
    assert "Traceback" in log
    assert "no such device" in log
    assert [s.info.status for s in runs("study")] == ["FAILED"]


def test_the_same_command_again_leaves_a_finished_study_as_it_is(cli, tiny, runs):
    def record():
        found = [*runs("study"), *runs("trial")]
        files = [f for run in found for f in artifact(run, "").rglob("*") if f.is_file()]
        return [run.to_dictionary() for run in found], {f: f.stat().st_mtime_ns for f in files}

    given = ("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine")
    first, before = cli(*given), record()
    again = cli(*given)
    assert again.code == 0
    assert record() == before
    times = [re.search("time: .*", ended.out).group() for ended in (first, again)]
    assert times[0] == times[1]
    cli(*given, "hydra.sweeper.retries=1")  # what its record says of it has changed, but no time
    (study,), ((old, *_), _) = runs("study"), before
    assert json.loads(study.data.tags["tunewright.limits"])["retries"] == 1
    assert (study.info.end_time, study.data.metrics) == (
        old["info"]["end_time"],
        old["data"]["metrics"],
    )


def test_a_key_without_a_default_can_be_searched(cli, tiny, runs):
    write_rows(Path("other.jsonl"), rows(60, seed=3))
    own = [o for o in tiny if not o.startswith("data.train")]
    ended = cli("train", *own, "-m", "data.train=reviews.jsonl,other.jsonl")
    assert ended.code == 0, ended.err
    assert {t.data.params["data.train"] for t in runs("trial")} == {"reviews.jsonl", "other.jsonl"}
    assert "data.train" not in runs("study")[0].data.params


def test_next_start_repairs_mlflow_after_kill(cli, tiny, runs, monkeypatch):
    with monkeypatch.context() as patch:
        for told_too_late in ("progressed", "end"):
            patch.setattr(ExperimentTask, told_too_late, lambda *_: None)
        cli("train", "-m", *tiny, "seed=1,2")
    cli("train", "-m", *tiny, "seed=1,2")
    (study,), trials = runs("study"), runs("trial")
    scores = [t.data.metrics["val/f1_macro"] for t in trials]
    best = trials[scores.index(max(scores))]
    assert study.data.tags["tunewright.best_run_id"] == best.info.run_id


def test_other_rows_make_another_study(cli, tiny, runs):
    cli("train", "-m", *tiny, "seed=1,2")
    write_rows(Path("reviews.jsonl"), rows(100))
    session().clear()  # as in the next process
    assert cli("train", "-m", *tiny, "seed=1,2").code == 0
    assert len(runs("study")) == 2
    assert len(runs("trial")) == 4


def test_a_study_is_not_continued_with_another_config(cli, mine):
    ended = cli(*mine, "training.epochs=2")
    assert ended.code == 2
    assert "training.epochs=1" in ended.err
    assert "found 2" in ended.err


STARTUP = "hydra.sweeper.sampler.n_startup_trials=2"  # so that the third is the sampler's own


@pytest.mark.parametrize(
    ("name", "given"),
    [("lr-batch-random", []), ("lr-batch-bayes", [STARTUP]), ("lr-batch-gp", [STARTUP])],
)
def test_the_ready_sweeps_run_on_any_model_and_data(cli, tiny, runs, name, given):
    own = [o for o in tiny if not o.startswith("optimizer.learning_rate")]
    ended = cli("sweep", name, *own, *given, "hydra.sweeper.n_trials=3")
    assert ended.code == 0, ended.err
    rates = [float(t.data.params["optimizer.learning_rate"]) for t in runs("trial")]
    assert len(rates) == 3
    assert all(1e-5 <= rate <= 3e-4 for rate in rates)


def test_an_own_sweep_comes_before_the_packaged_one(cli, tiny, runs):
    Path("sweeps").mkdir()
    Path("sweeps/demo.yaml").write_text(
        "about: mine\nspace: {seed: [1, 2], optimizer: [adamw, sgd]}\n"
        "settings: {training.epochs: 0.5}\n"
    )
    own = [o for o in tiny if not o.startswith(("training.epochs", "optimizer."))]
    assert cli("sweep", "demo", *own, "seed=7").code == 0
    trials = runs("trial")
    assert [t.data.params["optimizer.name"] for t in trials] == ["AdamW", "SGD"]
    assert {t.data.params["seed"] for t in trials} == {"7"}
