"""One study in a database: several searches at once, cut and continued."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from pipeline.search.study.trials import counted
from tests.support.studies import search_sphere, spec
from tests.support.waiting import DEADLINE, wait_until

PROGRAM = """
import hydra
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path=".", config_name="config")
def sphere(cfg: DictConfig) -> float:
    return cfg.x**2 + cfg.y**2


if __name__ == "__main__":
    sphere()
"""
CONFIG = """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: {sampler}
hydra:
  sweep: {{dir: swept}}
  sweeper: {{study_name: sphere, n_trials: {n_trials}, params: {{x: "{x}", y: "{y}"}}}}
x: 0
y: 0
"""


def search_twice_at_once(folder: Path, storage: str, **config: object) -> list[FrozenTrial]:
    """Run the same command in two processes at once, and return the study's trials."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "config.yaml").write_text(CONFIG.format(**config))
    command = [sys.executable, "program.py", "-m", f"hydra.sweeper.storage={storage}"]

    def search(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, cwd=folder)

    with ThreadPoolExecutor() as pool:
        for ended in pool.map(search, range(2)):
            assert ended.returncode == 0, ended.stdout + ended.stderr
    study = optuna.load_study(study_name="sphere", storage=storage)
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    return counted(study)


def test_two_searches_at_once_share_a_grid_in_postgresql(working_folder, database):
    settings = {"sampler": "grid", "n_trials": "null", "x": "range(0,6)", "y": "range(0,5)"}
    trials = search_twice_at_once(working_folder, database, **settings)
    points = sorted((t.params["x"], t.params["y"]) for t in trials)
    assert points == [(x, y) for x in range(6) for y in range(5)]
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert len({t.user_attrs["owner"]["pid"] for t in trials}) == 2


@pytest.mark.parametrize("sampler", ["tpe", "prior"])
def test_two_searches_at_once_share_the_trials_of_a_sampler(working_folder, database, sampler):
    settings = {"sampler": sampler, "n_trials": "25", "x": "interval(-5,5)", "y": "interval(-5,5)"}
    trials = search_twice_at_once(working_folder, database, **settings)
    assert len(trials) == 25
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert len({(t.params["x"], t.params["y"]) for t in trials}) == 25


def test_a_search_waits_for_a_database_that_restarts(working_folder, server, database):
    (working_folder / "program.py").write_text(PROGRAM)
    settings = {"sampler": "grid", "n_trials": "null", "x": "range(0,6)", "y": "range(0,6)"}
    (working_folder / "config.yaml").write_text(CONFIG.format(**settings))
    command = [sys.executable, "program.py", "-m", f"hydra.sweeper.storage={database}"]
    search = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def complete() -> list[FrozenTrial]:
        studies = optuna.get_all_study_names(database)
        study = optuna.load_study(study_name="sphere", storage=database) if studies else None
        return study.get_trials(states=(TrialState.COMPLETE,)) if study else []

    wait_until(lambda: len(complete()) > 3, search)
    server.stop()
    time.sleep(5)
    server.start()
    said = search.communicate(timeout=DEADLINE)
    assert search.returncode == 0, said
    assert "Traceback" not in "".join(said)
    assert "does not answer" in "".join(said)
    assert len({(t.params["x"], t.params["y"]) for t in complete()}) == 36


def test_a_search_cut_and_continued_proposes_the_same_in_postgresql(working_folder, database):
    uncut = search_sphere(spec(working_folder, "TPESampler", 12))
    search_sphere(replace(spec(working_folder, "TPESampler", 5), storage=database))
    cut = search_sphere(replace(spec(working_folder, "TPESampler", 12), storage=database))
    assert cut == uncut


def test_a_program_of_the_users_gets_a_paragraph_and_an_exit_code(working_folder):
    (working_folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    config = "defaults:\n  - override hydra/sweeper: optuna\nx: 0\ny: 0\n"
    (working_folder / "config.yaml").write_text(config, encoding="utf-8")
    command = [sys.executable, "program.py", "-m", "x=1,2", "hydra.sweeper.n_jobs=none"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip().startswith(
        "tunewright: hydra.sweeper.n_jobs=none: expected a whole"
    )
    assert "Traceback" not in ended.stderr
