"""A study: which points it proposes, to several workers and after an interruption."""

import socket
from dataclasses import replace

import pytest
from hydra.types import RunMode

from pipeline.config.compose import hydra_app
from pipeline.config.flags import CONFIG_NAME
from pipeline.search.samplers import sampler_name
from pipeline.search.space.grammar import parse_space
from pipeline.search.study.liveness import OWNER, Heartbeat
from pipeline.search.study.queue import claim, queue_grid
from pipeline.search.study.trials import counted
from tests.support.studies import search_sphere, spec


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


@pytest.mark.parametrize("sampler", ["TPESampler", "GPSampler"])
def test_interrupted_search_proposes_as_an_uninterrupted_one(working_folder, sampler):
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
    assert search_sphere(spec(working_folder / "torn", "TPESampler", 6))[:4] == whole


def test_finite_space_means_grid_by_default():
    finite, infinite = parse_space(["a=1,2"]), parse_space(["a=1,2", "b=interval(0,1.5)"])
    assert sampler_name({}, finite) == "GridSampler"
    assert sampler_name({}, infinite) == "TPESampler"
    assert sampler_name({"_target_": "optuna.samplers.GPSampler"}, finite) == "GPSampler"


def test_a_worker_reads_each_config_file_once_and_hands_out_copies(working_folder):
    own = working_folder / "conf" / "extra" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("y: 1\n", encoding="utf-8")
    with hydra_app("train") as hydra:
        loader = hydra.config_loader
        first = loader.load_configuration(CONFIG_NAME, ["+extra=mine"], RunMode.RUN)
        first.extra.y = 2
        own.write_text("y: 9\n", encoding="utf-8")
        second = loader.load_configuration(CONFIG_NAME, ["+extra=mine"], RunMode.RUN)
    assert second.extra.y == 1
