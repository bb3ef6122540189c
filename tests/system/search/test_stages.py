"""A search in stages by several workers, killed within a stage and resumed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from optuna.trial import TrialState

from pipeline.search.study.liveness import OWNER
from pipeline.search.study.trials import STAGE, all_params, ended
from tests.support.studies import open_study, trials_in
from tests.support.waiting import wait_until

PROGRAM = """
import math
import time

import hydra

@hydra.main(version_base=None, config_path=".", config_name="config")
def loss(cfg):
    time.sleep(0.2)
    return math.log(cfg.lr / 0.3) ** 2 + 1 / cfg.rank

if __name__ == "__main__":
    loss()
"""
CONFIG = """
defaults:
  - _self_
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: grid
  - override hydra/launcher: processes
lr: 1.0
rank: 1
hydra:
  sweeper:
    n_jobs: 2
    study_name: staged
    stages:
      - space: {lr: [0.03, 0.1, 0.25, 1.0, 3.0, 6.0]}
      - space: {rank: [2, 4, 8, 16]}
"""


def start(folder: str) -> subprocess.Popen:
    command = [sys.executable, "program.py", "-m", f"hydra.sweep.dir={folder}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def points(folder: str) -> list[tuple[int, dict[str, float]]]:
    done = ended(open_study(Path(folder)), "complete")
    return sorted(((t.user_attrs[STAGE], all_params(t)) for t in done), key=repr)


def test_search_in_stages_by_two_workers_is_killed_and_resumed(working_folder):
    (working_folder / "program.py").write_text(PROGRAM)
    (working_folder / "config.yaml").write_text(CONFIG)
    assert start("whole").wait() == 0
    for stage in (1, 2):
        process = start("killed")

        def is_within(stage: int = stage) -> bool:
            own = [t.state for t in trials_in(Path("killed")) if t.user_attrs.get(STAGE) == stage]
            return TrialState.COMPLETE in own and TrialState.RUNNING in own

        wait_until(is_within, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start("killed").wait() == 0
    assert points("killed") == points("whole")
    assert len(points("whole")) == 10
    # A worker goes from one stage to the next.
    workers = {
        stage: {
            t.user_attrs[OWNER]["pid"]
            for t in open_study(Path("whole")).trials
            if t.user_attrs[STAGE] == stage and OWNER in t.user_attrs
        }
        for stage in (1, 2)
    }
    assert workers[1] == workers[2]
    assert len(workers[1]) == 2
