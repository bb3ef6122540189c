"""What every task can do: each is checked, resumed, run again, searched and confirmed alike.

Kept models, predictions of files and servers are in the tests of serving, over the same tasks;
searches and their confirmation in `tests/system/tasks`.
"""

import shutil

import pytest

from pipeline.training.checkpoints import Checkpoints
from tests.support.experiments import Kept, experiment, run_once
from tests.support.refusals import refused
from tests.support.served import TASKS, command_of, run_of


@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_is_cut_off_resumes_bit_for_bit(task, working_folder):
    short = ["training.max_steps=4", "training.eval_every=2", "training.logging_steps=1"]
    short += ["training.precision=float32", "training.checkpoint_seconds=0"]
    whole = experiment(command_of(task, working_folder), *short, "training.checkpoint_every=1")
    straight, cut, states = Kept(), Kept(), working_folder / "states"
    uncut = run_once(whole, straight, working_folder, checkpoints=Checkpoints(states, keep=9))
    middle = working_folder / "middle"
    shutil.copytree(states, middle, ignore=shutil.ignore_patterns("state-00000003.pt"))
    resumed = run_once(whole, cut, working_folder, checkpoints=Checkpoints(middle, keep=1))
    assert resumed.scores == uncut.scores
    assert cut.weights == straight.weights
    assert cut.weights
    assert cut.tables == straight.tables
    later = [point for point in straight.points if point[0] > 2]
    assert [point for point in cut.points if point[0] > 0] == later


@pytest.mark.parametrize("task", TASKS)
def test_a_logged_run_is_run_again_to_the_same_numbers(task, made, cli):
    ended = cli("rerun", run_of(made, task).info.run_id, made.where)
    assert ended.code == 0, ended.out + ended.err
    assert "identical" in ended.out


@pytest.mark.parametrize("task", TASKS)
def test_the_data_are_checked(task, working_folder, cli):
    ended = cli("check", *command_of(task, working_folder))
    assert ended.code == 0, ended.out + ended.err
    assert "0 errors" in ended.out
    assert "\nbaseline" in ended.out


@pytest.mark.parametrize("task", TASKS[1:])
def test_slices_are_refused_where_rows_have_not_one_label(task, working_folder, cli):
    asked = ("evaluation.slices=[id]",)
    why = ("evaluation.slices", "expected task=classification with one label a row")
    refused(cli("train", *command_of(task, working_folder), *asked), *why)
