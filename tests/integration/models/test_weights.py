"""Runs of one process share what is read of the weights, and each gets them untouched."""

import copy
import gc
import pickle
import shutil
from pathlib import Path

import pytest

from pipeline.common.errors import DivergedError
from pipeline.common.session import session
from tests.support.experiments import Log, experiment, run_once, trial
from tests.support.weights import Trap, count_reads, same, with_own_code


def scores(given, folder) -> dict[str, float]:
    """Run as a trial that keeps no model, and return its metrics but for the times."""
    result = run_once(given, Log(), folder, trial(iter(["continue"] * 99)))
    gc.collect()  # as a worker does between trials
    return {k: v for k, v in result.metrics.items() if not k.startswith("cost/")}


@pytest.fixture
def reads(monkeypatch):
    return count_reads(monkeypatch)


@pytest.fixture
def own_code(tiny_model, working_folder, monkeypatch):
    return with_own_code(tiny_model, working_folder, monkeypatch)


def test_the_trials_of_a_sweep_read_the_weights_once(cli, tiny, runs, reads):
    ended = cli("train", "-m", *tiny, "optimizer.learning_rate=0.01,0.02", "seed=1,2")
    assert ended.code == 0, ended.err
    assert len(runs("trial")) == 4
    assert len(reads) == 1


@pytest.mark.parametrize("before", ["float32", "bfloat16"])
def test_a_run_after_another_is_the_run_alone(tiny, working_folder, reads, before):
    given = experiment(tiny, "seed=2")
    alone = scores(given, working_folder)
    session().clear()
    other = ("seed=1", "optimizer.learning_rate=0.3", f"training.precision={before}")
    scores(experiment(tiny, *other), working_folder)
    assert scores(given, working_folder) == alone
    assert len(reads) == 2


def test_a_run_that_broke_leaves_nothing(tiny, working_folder, monkeypatch, reads):
    given = experiment(tiny)
    alone = scores(given, working_folder)

    def breaks(*_):
        raise DivergedError("in the middle")

    broken = experiment(tiny, "training.precision=bfloat16")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training.trainer.LossWatch.check", breaks)
        with pytest.raises(DivergedError):
            run_once(broken, Log(), working_folder)
    gc.collect()
    assert scores(given, working_folder) == alone
    assert len(reads) == 1


def test_no_copy_of_weights_that_a_run_keeps_is_the_next_runs(tiny, working_folder):
    paused = run_once(experiment(tiny), Log(), working_folder, trial(iter(["pause"])))
    kept = copy.deepcopy((paused.snapshot.weights, paused.snapshot.evaluations.weights))
    gc.collect()
    scores(experiment(tiny, "seed=7"), working_folder)
    assert same(paused.snapshot.weights, kept[0])
    assert same(paused.snapshot.evaluations.weights, kept[1])


def test_pickled_weights_are_refused_and_not_read(cli, tiny, tiny_model):
    shutil.copytree(tiny_model, "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    Path("pickled/pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    ended = cli("train", *tiny, "model.checkpoint=./pickled")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    for fragment in ("pickled: the folder holds pickled weights", "save_pretrained(folder)"):
        assert fragment in ended.err
    assert not Path("ran").exists()
    assert not Path("mlruns").exists()


def test_a_models_own_code_does_not_run_unasked(cli, tiny, own_code):
    ended = cli("train", *tiny, f"model.checkpoint={own_code}")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert f"model.trust_remote_code={own_code}." in ended.err
    assert not Path("ran").exists()
    assert not Path("mlruns").exists()
