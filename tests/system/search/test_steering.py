"""A search by two workers that is steered from another process, in a journal and in a database."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.search.study import steering
from pipeline.search.study.storage import open_storage
from pipeline.search.study.trials import state_of
from tests.support.commands import Started
from tests.support.studies import trials_in
from tests.support.waiting import wait_until

PROGRAM = """
import itertools
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig

from pipeline.search.workers.reporter import report


@hydra.main(version_base=None, config_path=".", config_name="config")
def slow(cfg: DictConfig) -> float:
    for step in itertools.count():
        report(cfg.x, step)
        if Path(cfg.finish).exists():
            return cfg.x
        time.sleep(0.05)


if __name__ == "__main__":
    slow()
"""
CONFIG = """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/launcher: processes
  - override hydra/sweeper/sampler: random
hydra:
  sweep: {{dir: swept}}
  sweeper: {{study_name: slow, n_trials: 4, n_jobs: 2, params: {{x: "interval(0,1)"}}}}
x: 0
finish: {finish}
"""


@pytest.fixture(params=["journal", "database"])
def storage(request, working_folder) -> str:
    if request.param == "database":
        return request.getfixturevalue("database")
    return str(working_folder / "study.journal")


def test_a_search_of_two_workers_is_steered_from_another_process(working_folder, storage):
    import optuna

    (working_folder / "program.py").write_text(PROGRAM)
    (working_folder / "config.yaml").write_text(CONFIG.format(finish=working_folder / "finish"))
    command = [sys.executable, "program.py", "-m", f"hydra.sweeper.storage={storage}"]

    def begin():
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, **said)

    def states():
        try:
            study = optuna.load_study(study_name="slow", storage=open_storage(storage))
        except KeyError:
            return []
        return [state_of(t) for t in study.get_trials(deepcopy=False)]

    search = begin()
    wait_until(lambda: states() == ["running", "running"], search)
    study = optuna.load_study(study_name="slow", storage=open_storage(storage))
    steering.stop_trial(study, 0)
    wait_until(lambda: states() == ["pruned", "running", "running"], search)
    steering.add(study, space(), {"x": 0.5}, is_grid=False)
    steering.stop_trial(study, 1)
    wait_until(lambda: states() == ["pruned", "pruned", "running", "running"], search)
    wait_until(lambda: study.trials[3].params, search)  # which follow its state
    assert study.trials[3].params == {"x": 0.5}
    steering.stop(study, now=True)
    said, _ = search.communicate()
    assert search.returncode == 0, said
    assert "stopped by `tunewright study slow stop --now`. Run the same command to resume." in said
    assert states() == ["pruned", "pruned", "killed", "killed", "waiting", "waiting"]

    search = begin()
    wait_until(lambda: states()[4:] == ["running", "running"], search)
    steering.stop(study, now=False)
    Path("finish").touch()
    said, _ = search.communicate()
    assert search.returncode == 0, said
    assert "4 of 5 trials done" in said
    assert "stopped by `tunewright study slow stop`. Run the same command to resume." in said
    search = begin()
    said, _ = search.communicate()
    assert "5 of 5 trials done" in said


def space():
    from pipeline.search.space.grammar import parse_space

    return parse_space(["x=interval(0,1)"])


def test_a_training_search_is_steered_by_the_command_line(cli, tiny, runs):
    asked = ("seed=1,2,3", "training.epochs=9999", "hydra.sweeper.study_name=mine")
    search = Started("train", "-m", *tiny, *asked, "hydra.sweeper.n_jobs=2")
    folder = Path("mlruns/studies/mine")

    def states():
        return [state_of(t) for t in trials_in(folder)]

    wait_until(lambda: states()[:2] == ["running", "running"], search)
    assert cli("study", "mine", "stop-trial", "1").code == 0
    wait_until(lambda: states() == ["running", "pruned", "running"], search)
    moved = cli("study", "min", "stop", "--now")
    assert "mine: no further trial begins, 2 running trials to end now" in moved.out, moved.err
    said, _ = search.communicate()
    assert search.returncode == 0, said
    assert "1 of 3 trials done, 0 failed, 1 pruned, 2 killed and run again" in said
    ended = {t.data.tags["tunewright.trial"]: t for t in runs("trial")}
    reasons = {n: t.data.tags["tunewright.reason"] for n, t in ended.items()}
    now = "killed: stopped by `tunewright study mine stop --now`"
    assert reasons == {"0": now, "1": "stopped by the user", "2": now}
    assert {t.info.status for t in ended.values()} == {"KILLED"}
