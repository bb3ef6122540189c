"""A killed search resumes where it was, and another Hydra program is searched."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from tests.support.studies import open_study, trials_in
from tests.support.waiting import DEADLINE, wait_until


def test_killed_search_resumes_where_it_was(cli, tiny, runs):
    args = ("train", "-m", *tiny, "seed=1,2,3,4,5,6", "hydra.sweeper.study_name=killed")
    process = subprocess.Popen([sys.executable, "-m", "pipeline", *args], stdout=subprocess.DEVNULL)
    folder = Path("mlruns/studies/killed")

    def is_half_done() -> bool:
        states = [t.state for t in trials_in(folder)]
        return states.count(TrialState.COMPLETE) >= 3 and TrialState.RUNNING in states

    wait_until(is_half_done, process)
    below = psutil.Process(process.pid).children(recursive=True)
    assert any("multiprocessing.forkserver" in " ".join(child.cmdline()) for child in below)
    process.kill()
    process.wait()
    assert psutil.wait_procs(below, timeout=DEADLINE)[1] == []
    done = {t.number for t in open_study(folder).trials if t.state == TrialState.COMPLETE}
    told = {str(number) for number in done}  # a kill may come between a run's end and the telling
    finished = {t.info.run_id for t in runs("trial") if t.data.tags["tunewright.trial"] in told}
    assert 3 <= len(done) < 6

    ended = cli(*args)
    assert ended.code == 0, ended.err
    trials = runs("trial")
    complete = [t for t in trials if t.info.status == "FINISHED"]
    assert sorted(t.data.params["seed"] for t in complete) == list("123456")
    assert finished <= {t.info.run_id for t in complete}
    assert "RUNNING" not in {t.info.status for t in trials}
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {runs("study")[0].info.run_id}


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
