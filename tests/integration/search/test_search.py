"""Searches: one parent and its trials in MLflow, exhaustive grids, failures that stay one trial."""

import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf
from optuna.trial import TrialState

from pipeline.config.compose import CONFIG_NAME, hydra_app
from pipeline.data import load_splits
from pipeline.jobs.trial import ExperimentTask
from pipeline.search.samplers import sampler_name
from pipeline.search.space.space import parse_space
from pipeline.search.study.liveness import OWNER, Heartbeat
from pipeline.search.study.study import claim, mend_journal, queue_grid
from pipeline.search.study.trials import counted
from pipeline.search.workers.config_files import reading_once
from pipeline.tasks.classification import Classification
from pipeline.training import prepare as prepared
from tests.support.rows import rows, write_rows
from tests.support.stores import artifact
from tests.support.studies import open_study, search_sphere, spec

GRID = ("optimizer.learning_rate=1e-3,1e-2", "training.batch_size=8,16")


def states_in(folder: Path) -> list[TrialState]:
    """Return the states of the trials so far; none where the study is not there yet."""
    journal = folder / "study.journal"
    if not journal.is_file():
        return []
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    studies = storage.get_all_studies()
    return [t.state for study in studies for t in storage.get_all_trials(study._study_id)]


def test_several_values_make_an_exhaustive_grid_under_one_parent(cli, tiny, runs):
    ended = cli("train", "-m", *tiny, *GRID)
    assert ended.code == 0, ended.err
    assert "a grid of 4 points" in ended.out
    (study,), trials = runs("study"), runs("trial")
    keys = [g.partition("=")[0] for g in GRID]
    assert len({tuple(t.data.params[k] for k in keys) for t in trials}) == len(trials) == 4
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {study.info.run_id}
    assert {t.info.status for t in [study, *trials]} == {"FINISHED"}
    scores = [t.data.metrics["val/best/f1_macro"] for t in trials]
    best = trials[scores.index(max(scores))]
    assert study.data.tags["tunewright.best_run_id"] == best.info.run_id
    models = [artifact(t, "model").is_dir() for t in trials]
    assert models == [t is best for t in trials]  # only the best keeps its model
    table = artifact(study, "trials.csv").read_text()
    assert len(table.splitlines()) == 5


def test_the_command_line_that_best_prints_makes_the_same_run(cli, tiny, runs):
    cli("train", "-m", *tiny, *GRID)
    (study,) = runs("study")
    shown = cli("best", study.data.tags["tunewright.study"]).out
    again = shown.split("tunewright train ")[1].split()
    cli("train", *again)
    (run,) = runs("run")
    assert f"= {run.data.metrics['val/best/f1_macro']:.4f}" in shown


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


def test_the_same_command_again_runs_nothing_twice(cli, tiny, runs):
    cli("train", "-m", *tiny, "seed=1,2")
    before = [t.info.run_id for t in runs("trial")]
    ended = cli("train", "-m", *tiny, "seed=1,2")
    assert ended.code == 0
    assert [t.info.run_id for t in runs("trial")] == before
    assert len(runs("study")) == 1


def test_a_key_without_a_default_can_be_searched(cli, tiny, runs):
    write_rows(Path("other.jsonl"), rows(60, seed=3))
    own = [o for o in tiny if not o.startswith("data.train")]
    ended = cli("train", *own, "-m", "data.train=reviews.jsonl,other.jsonl")
    assert ended.code == 0, ended.err
    assert {t.data.params["data.train"] for t in runs("trial")} == {"reviews.jsonl", "other.jsonl"}
    assert "data.train" not in runs("study")[0].data.params


def test_what_a_kill_kept_from_mlflow_is_made_good_by_the_next_start(cli, tiny, runs, monkeypatch):
    with monkeypatch.context() as patch:
        for told_too_late in ("progressed", "end"):
            patch.setattr(ExperimentTask, told_too_late, lambda *_: None)
        cli("train", "-m", *tiny, "seed=1,2")
    cli("train", "-m", *tiny, "seed=1,2")
    (study,), trials = runs("study"), runs("trial")
    scores = [t.data.metrics["val/best/f1_macro"] for t in trials]
    best = trials[scores.index(max(scores))]
    assert study.data.tags["tunewright.best_run_id"] == best.info.run_id


def test_two_workers_never_take_the_last_point_of_a_grid_both(working_folder):
    grid = replace(spec(working_folder, "GridSampler", 2), space=parse_space(["x=1,2"]), sampler={})
    study = grid.open()
    queue_grid(study, grid)
    heartbeat = Heartbeat(study)
    asked = study.ask

    def late(**kwargs):  # between its look at the queue and its question another worker comes
        study.ask = asked
        assert claim(study, grid, heartbeat) is not None
        return asked(**kwargs)

    claim(study, grid, heartbeat)
    study.ask = late
    assert claim(study, grid, heartbeat) is None
    points = [t.params["x"] for t in counted(study)]
    assert sorted(points) == [1, 2]


def test_other_rows_make_another_study(cli, tiny, runs):
    cli("train", "-m", *tiny, "seed=1,2")
    write_rows(Path("reviews.jsonl"), rows(100))
    load_splits.cache_clear()  # as in the next process
    prepared._encoded.cache_clear()
    assert cli("train", "-m", *tiny, "seed=1,2").code == 0
    assert len(runs("study")) == 2
    assert len(runs("trial")) == 4


def test_a_study_is_not_continued_with_another_config(cli, tiny):
    name = "hydra.sweeper.study_name=mine"
    cli("train", "-m", *tiny, "seed=1,2", name)
    ended = cli("train", "-m", *tiny, "seed=1,2", "training.epochs=2", name)
    assert ended.code == 2
    assert "training.epochs=1" in ended.err
    assert "found 2" in ended.err


def test_a_killed_search_is_continued_where_it_was(cli, tiny, runs):
    args = ("train", "-m", *tiny, "seed=1,2,3,4,5,6", "hydra.sweeper.study_name=killed")
    process = subprocess.Popen([sys.executable, "-m", "pipeline", *args], stdout=subprocess.DEVNULL)
    folder = Path("mlruns/studies/killed")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        states = states_in(folder)
        if states.count(TrialState.COMPLETE) >= 3 and TrialState.RUNNING in states:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = {t.number for t in open_study(folder).trials if t.state == TrialState.COMPLETE}
    finished = {t.info.run_id for t in runs("trial") if t.info.status == "FINISHED"}
    assert 3 <= len(done) < 6

    ended = cli(*args)
    assert ended.code == 0, ended.err
    trials = runs("trial")
    complete = [t for t in trials if t.info.status == "FINISHED"]
    assert sorted(t.data.params["seed"] for t in complete) == list("123456")
    assert finished <= {t.info.run_id for t in complete}
    assert "RUNNING" not in {t.info.status for t in trials}
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {runs("study")[0].info.run_id}


@pytest.mark.parametrize("name", ["lr-batch-random", "lr-batch-bayes", "lr-batch-gp"])
def test_the_ready_sweeps_run_on_any_model_and_data(cli, tiny, runs, name):
    own = [o for o in tiny if not o.startswith("optimizer.learning_rate")]
    ended = cli("sweep", name, *own, "hydra.sweeper.n_trials=7")
    assert ended.code == 0, ended.err
    rates = [float(t.data.params["optimizer.learning_rate"]) for t in runs("trial")]
    assert len(rates) == 7
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


@pytest.mark.parametrize("sampler", ["TPESampler", "GPSampler"])
def test_a_search_cut_and_continued_proposes_what_the_uncut_one_would(working_folder, sampler):
    uncut = search_sphere(spec(working_folder / "uncut", sampler, 12))
    search_sphere(spec(working_folder / "cut", sampler, 5))
    assert search_sphere(spec(working_folder / "cut", sampler, 12)) == uncut


def test_a_trial_whose_process_died_is_run_again_in_its_place(working_folder):
    uncut = search_sphere(spec(working_folder / "uncut", "TPESampler", 8))
    cut = spec(working_folder / "cut", "TPESampler", 8)
    search_sphere(spec(working_folder / "cut", "TPESampler", 5))
    study = cut.open()
    dead = claim(study, cut, Heartbeat(study))
    dead.set_user_attr(OWNER, {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 0})
    assert search_sphere(cut) == uncut


def test_a_journal_whose_last_line_is_torn_is_still_read(working_folder):
    whole = search_sphere(spec(working_folder / "torn", "TPESampler", 4))
    with (working_folder / "torn" / "study.journal").open("a") as journal:
        journal.write('{"op_code":')
    mend_journal(str(working_folder / "torn" / "study.journal"))
    assert search_sphere(spec(working_folder / "torn", "TPESampler", 6))[:4] == whole


def test_a_finite_space_means_a_grid_unless_told_otherwise():
    finite, infinite = parse_space(["a=1,2"]), parse_space(["a=1,2", "b=interval(0,1.5)"])
    assert sampler_name({}, finite) == "GridSampler"
    assert sampler_name({}, infinite) == "TPESampler"
    assert sampler_name({"_target_": "optuna.samplers.GPSampler"}, finite) == "GPSampler"


PROGRAM = """
import hydra
from omegaconf import DictConfig

@hydra.main(version_base=None, config_path=".", config_name="config")
def sphere(cfg: DictConfig) -> float:
    return cfg.x**2 + cfg.y**2

if __name__ == "__main__":
    sphere()
"""
OFFICIAL_STYLE = """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: tpe
hydra:
  sweeper:
    sampler:
      seed: 123
    direction: minimize
    study_name: sphere
    storage: null
    n_trials: 8
    n_jobs: 1
    max_failure_rate: 0.0
    params:
      x: range(-5.5, 5.5, step=0.5)
      y: choice(-5, 0, 5)
x: 1
y: 1
"""


def test_another_hydra_program_is_searched_by_its_own_official_style_config(working_folder):
    (working_folder / "config.yaml").write_text(OFFICIAL_STYLE)
    (working_folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "-m", "hydra.sweep.dir=swept"]
    subprocess.run(command, check=True, capture_output=True, cwd=working_folder)
    results = OmegaConf.load("swept/optimization_results.yaml")
    x, y = results.best_params.x, results.best_params.y
    assert results.best_value == pytest.approx(x**2 + y**2)
    assert len(open_study(Path("swept")).trials) == 8
    assert not Path("mlruns").exists()


def test_a_worker_reads_each_config_file_once_and_hands_out_copies(working_folder):
    own = working_folder / "conf" / "extra" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("y: 1\n", encoding="utf-8")
    with hydra_app("train") as hydra:
        loader = reading_once(hydra.config_loader)
        first = loader.load_configuration(CONFIG_NAME, ["+extra=mine"], RunMode.RUN)
        first.extra.y = 2
        own.write_text("y: 9\n", encoding="utf-8")
        second = loader.load_configuration(CONFIG_NAME, ["+extra=mine"], RunMode.RUN)
    assert second.extra.y == 1
