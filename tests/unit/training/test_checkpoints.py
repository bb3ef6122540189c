"""Checkpoints on disk: whole or not there, the latest kept, and written when asked for."""

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.common.errors import DivergedError, TrackingError
from pipeline.tracking import Record, open_store
from pipeline.training.best import Evaluation
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.points import Length, checkpoint_points
from pipeline.training.run_folders import can_resume, drop, left_in, lock_of
from pipeline.training.snapshot import RandomState
from tests.support.configs import training
from tests.support.experiments import experiment
from tests.support.snapshots import files, same, snapshot, write


@pytest.mark.parametrize("best", [None, 3])
def test_a_state_comes_back_from_disk_bit_for_bit(tmp_path, best):
    written = snapshot(5, best)
    if best is not None:
        tied = torch.rand(4, 4)
        written.evaluations.weights.update(embedding=tied, head=tied, turned=tied.T)
    checkpoints = Checkpoints(tmp_path / "run", keep=1)
    checkpoints.write(written)
    checkpoints.wait()
    read = Checkpoints(tmp_path / "run", keep=1).latest()
    assert same(written, read)
    read.random.put_back()
    assert same(RandomState.take(), written.random)


def test_checkpoint_holds_state_of_the_moment_of_asking(tmp_path):
    written = snapshot(5, 3)
    before = {name: weight.clone() for name, weight in written.evaluations.weights.items()}
    checkpoints = Checkpoints(tmp_path / "run", keep=1)
    checkpoints.write(written, after=lambda: time.sleep(0.2))
    model = torch.nn.Linear(3, 2)
    written.evaluations.add(Evaluation(6, 1.0, {"loss": 0.0}, np.zeros(1)), model)
    checkpoints.wait()
    read = Checkpoints(tmp_path / "run", keep=1).latest().evaluations
    assert same(dict(read.weights), before)
    assert read.best.step == 3


def test_only_the_latest_states_and_their_best_weights_stay(tmp_path):
    other = tmp_path / "state-00000001.pt"
    other.touch()
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    for step, best in ((2, 1), (4, 3), (6, 3), (8, 7)):
        write(checkpoints, step, best=best)
    assert files(tmp_path / "run") == [
        *("best-00000003.safetensors", "best-00000007.safetensors"),
        *("state-00000006.pt", "state-00000008.pt"),
    ]
    checkpoints.discard()
    assert files(tmp_path) == [other.name]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink, Path.touch])
@pytest.mark.parametrize("file", ["state-00000004.pt", "best-00000003.safetensors"])
def test_damaged_state_is_replaced_by_the_previous_one(tmp_path, caplog, damage, file):
    folder = tmp_path / "run"
    for step, best in ((2, 1), (4, 3)):
        write(Checkpoints(folder, keep=2), step, best=best)
    if damage is Path.touch:  # a file that the system made, but did not fill
        (folder / file).unlink()
    damage(folder / file)
    checkpoints = Checkpoints(folder, keep=2)
    assert checkpoints.latest().step == 2
    assert ("state-00000004.pt" in caplog.text) == (folder / "state-00000004.pt").exists()
    write(checkpoints, 3)  # another step than before: what is damaged must not count as the latest
    assert Checkpoints(folder, keep=2).latest().step == 3
    assert [name for name in files(folder) if "state" in name] == [
        "state-00000002.pt",
        "state-00000003.pt",
    ]


def test_kill_between_best_weights_and_state_leaves_previous_state(tmp_path):
    folder = tmp_path / "run"
    write(Checkpoints(folder, keep=1), 2, best=1)
    write(Checkpoints(tmp_path / "ahead", keep=1), 4, best=3)
    shutil.move(tmp_path / "ahead" / "best-00000003.safetensors", folder)
    half = folder / ".state-00000004.pt-x.making" / "state-00000004.pt"
    half.parent.mkdir()
    half.write_bytes(b"half of it")
    checkpoints = Checkpoints(folder, keep=1)
    assert checkpoints.latest().step == 2
    write(checkpoints, 4, best=3)
    assert files(folder) == ["best-00000003.safetensors", "state-00000004.pt"]


def test_best_weights_left_by_a_kill_are_not_used_for_a_later_state(tmp_path):
    folder = tmp_path / "run"
    write(Checkpoints(folder, keep=1), 2)
    shutil.copy(folder / "best-00000001.safetensors", folder / "best-00000003.safetensors")
    checkpoints = Checkpoints(folder, keep=1)
    assert checkpoints.latest().step == 2
    write(checkpoints, 4)  # whose best weights are still those of step 1
    assert files(folder) == ["best-00000001.safetensors", "state-00000004.pt"]
    assert Checkpoints(folder, keep=1).latest().step == 4


def test_failed_write_is_raised_by_the_next_write(tmp_path):
    (tmp_path / "run").write_text("no folder")
    checkpoints = Checkpoints(tmp_path / "run", keep=1)
    checkpoints.write(snapshot(1))
    with pytest.raises(TrackingError, match="cannot write a checkpoint"):
        checkpoints.write(snapshot(2))
    with pytest.raises(TypeError, match="cannot be stored"):
        checkpoints.write(replace(snapshot(3), schedule={"fn": lambda: 1}))


@pytest.mark.parametrize(
    ("error", "of_trial", "stays"),
    [
        (None, False, False),
        (DivergedError("nan"), False, False),
        (RuntimeError("out of memory"), False, True),
        (KeyboardInterrupt(), False, True),
        (RuntimeError("out of memory"), True, False),
        (KeyboardInterrupt(), True, True),
    ],
)
def test_checkpoints_are_kept_by_how_a_run_ended(tmp_path, error, of_trial, stays):
    def end() -> None:
        with Checkpoints(tmp_path / "run", 1, of_trial=of_trial) as checkpoints:
            checkpoints.write(snapshot(1))
            if error is not None:
                raise error

    if error is None:
        end()
    else:
        with pytest.raises(type(error)):
            end()
    assert (tmp_path / "run").exists() == stays
    assert can_resume(tmp_path / "run") == stays
    if not stays:
        assert not files(tmp_path)


def test_run_is_locked_by_one_process_at_a_time(tmp_path):
    folder = tmp_path / "checkpoints" / "run"
    write(Checkpoints(folder, 1), 3)
    assert left_in(tmp_path) == ["run"]
    with lock_of(folder):
        with pytest.raises(TrackingError, match="run is still running"), Checkpoints(folder, 1):
            pass
        assert not can_resume(folder)
        drop(folder)
        assert left_in(tmp_path) == []
        assert folder.is_dir()
    assert can_resume(folder)
    drop(folder)
    assert not list(folder.parent.iterdir())


def test_checkpoints_come_as_asked_and_never_at_the_end():
    made, length = partial(training, epochs=2.0), Length(14, 2.0, 7)
    assert checkpoint_points(made(), length) == {7}
    assert checkpoint_points(made(checkpoint_every=4), length) == {4, 8, 12}
    assert checkpoint_points(made(checkpoint_every=0.5), length) == {4, 7, 11}
    assert checkpoint_points(made(checkpoint_every=None), length) == set()


def test_resumed_record_takes_no_point_twice(tiny):
    store = open_store(experiment(tiny).tracking)
    with Record(store, "cut", {}, {}) as record:
        for step in (1, 2, 4):
            record.metrics({"train/loss": step / 3}, step)
        record.end("complete")
    client, run_id = store.client, record.run_id
    client.set_tag(run_id, "tunewright.reason", "stopped: interrupted")
    client.set_terminated(run_id, "FAILED")
    with Record(store, "cut", {}, {}, run_id=run_id, was_cut_off=True) as again:
        again.flush()()
        run = client.get_run(run_id)
        assert run.info.status == "RUNNING"
        assert run.data.tags["tunewright.state"] == "running"
        assert "tunewright.reason" not in run.data.tags
        for step in (2, 3, 4, 5):
            again.metrics({"train/loss": step / 3, "new": 1.0}, step)
    points = client.get_metric_history(run_id, "train/loss")
    assert [(p.step, p.value) for p in points] == [(s, s / 3) for s in (1, 2, 4, 3, 5)]
    assert len(client.get_metric_history(run_id, "new")) == 4
    assert client.get_run(run_id).info.status == "FINISHED"
