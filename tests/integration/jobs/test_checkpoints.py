"""States on disk: whole or not there, and a run that was cut off ends as if it never had been."""

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from pipeline import run as runs
from pipeline.common.errors import DivergedError, TrackingError
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.training import TrainingConfig
from pipeline.data import load_splits
from pipeline.evaluation.names import is_cost
from pipeline.jobs.resume import find_cut_off, resume
from pipeline.search.study.study import find_study
from pipeline.tracking import Record, open_store
from pipeline.training.best import Evaluation, Evaluations
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.run_folders import can_go_on, drop, left_in, lock_of
from pipeline.training.snapshot import RandomState
from pipeline.training.trainer import checkpoint_points
from tests.support.experiments import Log, experiment, trial
from tests.support.snapshots import snapshot, write
from tests.support.stores import artifact

COMMAND = [sys.executable, "-m", "pipeline", "train", "--resume"]


def same(one, other) -> bool:
    """Whether two trees are equal to the last bit, types and dtypes included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dict__"):
        return same(vars(one), vars(other))
    return one == other


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_what_is_written_is_what_was_there_when_it_was_asked_for(tmp_path):
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
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, caplog, damage, file):
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


def test_a_kill_between_the_best_weights_and_the_state_leaves_the_former_state(tmp_path):
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


def test_weights_of_a_kill_that_are_ahead_are_not_taken_for_those_of_a_later_state(tmp_path):
    folder = tmp_path / "run"
    write(Checkpoints(folder, keep=1), 2)
    shutil.copy(folder / "best-00000001.safetensors", folder / "best-00000003.safetensors")
    checkpoints = Checkpoints(folder, keep=1)
    assert checkpoints.latest().step == 2
    write(checkpoints, 4)  # whose best weights are still those of step 1
    assert files(folder) == ["best-00000001.safetensors", "state-00000004.pt"]
    assert Checkpoints(folder, keep=1).latest().step == 4


def test_what_cannot_be_written_is_said_at_the_next_write(tmp_path):
    (tmp_path / "run").write_text("no folder")
    checkpoints = Checkpoints(tmp_path / "run", keep=1)
    checkpoints.write(snapshot(1))
    with pytest.raises(TrackingError, match="cannot be written"):
        checkpoints.write(snapshot(2))
    with pytest.raises(TypeError, match="cannot be kept"):
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
def test_what_stays_of_a_run_depends_on_its_end(tmp_path, error, of_trial, stays):
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
    assert can_go_on(tmp_path / "run") == stays
    if not stays:
        assert not files(tmp_path)


def test_one_process_at_a_time_is_at_a_run(tmp_path):
    folder = tmp_path / "checkpoints" / "run"
    write(Checkpoints(folder, 1), 3)
    assert left_in(tmp_path) == ["run"]
    with lock_of(folder):
        with pytest.raises(TrackingError, match="run is still running"), Checkpoints(folder, 1):
            pass
        assert not can_go_on(folder)
        drop(folder)
        assert left_in(tmp_path) == []
        assert folder.is_dir()
    assert can_go_on(folder)
    drop(folder)
    assert not list(folder.parent.iterdir())


def test_checkpoints_come_as_asked_and_never_at_the_end():
    made = partial(TrainingConfig, 2.0, 8, 16, 1.0, 1.0, 10, None, "float32")
    assert checkpoint_points(made(), 7, 14) == {7}
    assert checkpoint_points(made(checkpoint_every=4), 7, 14) == {4, 8, 12}
    assert checkpoint_points(made(checkpoint_every=0.5), 7, 14) == {4, 7, 11}
    assert checkpoint_points(made(checkpoint_every=None), 7, 14) == set()


@pytest.mark.parametrize("value", ["0", "0.0", "-1", "true", "[1.0]", "inf", "often"])
def test_a_cadence_that_is_none_is_refused(cli, value):
    ended = cli("train", f"training.checkpoint_every={value}")
    assert ended.code == 2
    assert "training.checkpoint_every=" in ended.err
    assert "whole number of steps" in ended.err


class Kept(Log):
    """A record that keeps what it gets: points, predictions and the model's files."""

    def __init__(self):
        super().__init__()
        self.tables, self.weights = [], {}

    def table(self, columns, file):
        self.tables.append((file, columns))

    def model(self, folder, _):
        self.weights = {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}


def test_a_run_goes_on_from_every_step_bit_for_bit(tiny, working_folder, monkeypatch):
    own = ["training.epochs=2", "training.logging_steps=3", "training.eval_every=4"]
    whole = experiment(tiny, *own, "training.checkpoint_every=1", "evaluation.test=true")
    last = []  # the weights after the last step
    restore = Evaluations.restore

    def noted(self, model):
        last.append({name: weight.clone() for name, weight in model.state_dict().items()})
        restore(self, model)

    monkeypatch.setattr(Evaluations, "restore", noted)
    straight, states = Kept(), working_folder / "states"
    every = Checkpoints(states, keep=99)  # not used as a context, so all stay
    uncut = runs.run(whole, straight, working_folder, checkpoints=every)
    steps = [int(path.stem[6:]) for path in sorted(states.glob("state-*"))]
    assert steps == list(range(1, 14))
    for step in steps:
        one = working_folder / f"from-{step}"
        shutil.copytree(states, one, ignore=lambda *_: [])
        for path in one.glob("state-*"):
            if path.name != f"state-{step:08d}.pt":
                path.unlink()
        cut = Kept()
        resumed = runs.run(whole, cut, working_folder, checkpoints=Checkpoints(one, keep=1))
        assert same(last[-1], last[0]), step
        assert cut.weights == straight.weights
        assert cut.tables == straight.tables
        assert resumed.scores == uncut.scores
        logged = [point for point in cut.points if point[0] > 0]
        assert logged == [point for point in straight.points if point[0] > step]


class Terminated(Kept):
    """A record that gets its process SIGTERM with the evaluation of a step."""

    def __init__(self, step: int, times: int = 1):
        super().__init__()
        self._step, self._times = step, times

    def metrics(self, values, step=0):
        super().metrics(values, step)
        if step == self._step and "val/loss" in values:
            for _ in range(self._times):
                signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("step", "own"),
    [
        (8, []),
        (14, []),  # the last one: only what comes after training is left
        (8, ["training.early_stopping_patience=1", "optimizer.learning_rate=1e-9"]),
    ],
)
def test_a_terminated_run_keeps_the_state_of_that_step_and_goes_on(tiny, working_folder, step, own):
    two = ["training.epochs=2", "training.eval_every=4", "evaluation.test=true"]
    whole = experiment(tiny, *two, *own)
    straight, cut, rest = Kept(), Terminated(step), Kept()
    uncut = runs.run(whole, straight, working_folder)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=f"the state of step {step} is kept"):
        runs.run(whole, cut, working_folder)
    assert signal.getsignal(signal.SIGTERM) == former
    folder = working_folder / "mlruns" / "checkpoints" / "none"
    assert f"state-{step:08d}.pt" in files(folder)
    resumed = runs.run(whole, rest, working_folder)
    assert not folder.exists()
    assert resumed.scores == uncut.scores
    assert {k: v for k, v in resumed.metrics.items() if not is_cost(k)} == {
        k: v for k, v in uncut.metrics.items() if not is_cost(k)
    }
    assert rest.tables == straight.tables
    assert rest.weights == straight.weights
    logged = [point for point in (*cut.points, *rest.points) if point[0] > 0]
    assert logged == [point for point in straight.points if point[0] > 0]


def test_a_second_sigterm_does_not_wait(tiny, working_folder):
    record = Terminated(4, times=2)
    with pytest.raises(KeyboardInterrupt, match="twice"):
        runs.run(experiment(tiny), record, working_folder)
    assert not list((working_folder / "mlruns" / "checkpoints").iterdir())


def test_a_paused_trial_leaves_nothing_on_disk(tiny, working_folder):
    whole = experiment(tiny, "training.checkpoint_every=1", "training.eval_every=3")
    paused = runs.run(whole, Log(), working_folder, trial(iter(["pause"])))
    assert paused.state == "paused"
    assert not list((working_folder / "mlruns" / "checkpoints").iterdir())


def test_a_record_that_goes_on_takes_no_point_twice(tiny):
    store = open_store(experiment(tiny).tracking)
    with Record(store, "cut", {}, {}) as record:
        for step in (1, 2, 4):
            record.metrics({"train/loss": step / 3}, step)
        record.end("complete")
    client, run_id = store.client, record.run_id
    client.set_tag(run_id, "tunewright.reason", "stopped: KeyboardInterrupt")
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


def test_only_the_same_run_on_the_same_rows_goes_on(cli, tiny, runs, monkeypatch):
    own = [*tiny, "training.checkpoint_every=1"]

    def interrupted(_, __, step):
        if step == 4:
            raise KeyboardInterrupt

    def config(*more):
        with hydra_app("train") as hydra:
            return without_hydra(compose(hydra, [*own, *more]))

    store = open_store(experiment(own).tracking)
    assert find_cut_off(store, config()) is None
    monkeypatch.setattr("pipeline.run._log_progress", interrupted)
    assert cli("train", *own).code == 130
    (run,) = runs("run")
    run_id = run.info.run_id
    assert find_cut_off(store, config()) == run_id
    assert find_cut_off(store, config("training.threads=7", "tracking.experiment=tunewright"))
    assert find_cut_off(store, config("seed=1")) is None
    rows = Path("reviews.jsonl").read_text().splitlines(keepends=True)
    Path("reviews.jsonl").write_text("".join(rows[1:]))
    load_splits.cache_clear()
    with pytest.raises(TrackingError, match="began with other data"):
        resume(config(), run_id)
    assert find_cut_off(store, config()) == run_id  # a refusal takes nothing away
    with pytest.raises(TrackingError, match="no such run"):
        resume(config(), "0" * 32)
    Path("reviews.jsonl").write_text("".join(rows))
    load_splits.cache_clear()
    (state,) = Path("mlruns/checkpoints", run_id).glob("state-*.pt")
    state.write_bytes(b"torn")
    with pytest.raises(TrackingError, match="cannot be read: File is not a zip file"):
        resume(config(), run_id)
    assert runs("run")[0].data.tags["tunewright.state"] == "failed"  # as it was


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again_under_its_record(
    cli, tiny, runs, monkeypatch
):
    cut_off(cli, monkeypatch, 1, "train", *tiny, "training.checkpoint_every=null")
    (run,) = runs("run")
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    client.update_run(run.info.run_id, status="RUNNING")  # as a kill leaves it
    client.delete_tag(run.info.run_id, "tunewright.reason")
    command = ("train", "--resume", *tiny, "training.checkpoint_every=null")
    assert cli(*command).code == 0
    assert len(runs("run")) == 2  # this process, which began it, still lives
    dead = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 0}
    client.set_tag(run.info.run_id, "tunewright.process", json.dumps(dead))
    ended = cli(*command)
    assert ended.code == 0, ended.err
    assert len(runs("run")) == 2
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def cut_off(cli, monkeypatch, step: int, *command: str) -> None:
    """Run a command that is interrupted after a step."""
    log = runs._log_progress

    def interrupted(record, metrics, reached):
        log(record, metrics, reached)
        if reached == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.run._log_progress", interrupted)
        assert cli(*command).code == 130


def test_a_run_is_resumed_by_its_id_and_its_record_stays_what_it_was(
    cli, tiny, runs, tiny_model, monkeypatch
):
    cut_off(cli, monkeypatch, 4, "train", *tiny, "training.checkpoint_every=1")
    (before,) = runs("run")
    command = ("resume", before.info.run_id, "--allow", str(tiny_model))
    refused = cli(*command, "seed=3")
    assert refused.code == 2
    assert f"tunewright rerun {before.info.run_id} seed=3" in refused.err
    monkeypatch.setattr("pipeline.jobs.rerun.environment", dict)
    ended = cli(*command)
    assert ended.code == 0, ended.err
    assert "packages    cannot be known" in ended.out
    (run,) = runs("run")
    assert run.info.status == "FINISHED"
    assert run.data.tags["tunewright.overrides"] == before.data.tags["tunewright.overrides"]
    assert run.data.tags["tunewright.deterministic"] == "yes, from step 3 on"
    assert artifact(run, "provenance.2.json").is_file()
    assert json.loads(artifact(run, "provenance.json").read_text())["packages"]
    again = cli(*command)
    assert again.code == 2
    assert "the run is complete" in again.err


def test_a_rerun_that_is_cut_off_goes_on_to_its_verdict(cli, tiny, runs, tiny_model, monkeypatch):
    pruner = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=1.1")
    own = [*tiny, "training.checkpoint_every=1", "training.eval_every=3"]
    cli("train", "-m", *own, *pruner, "seed=1,2")
    first = runs("trial")[0].info.run_id
    allow = ("--allow", str(tiny_model))
    cut_off(cli, monkeypatch, 2, "rerun", first, *allow)
    (rerun,) = runs("run")
    ended = cli("resume", rerun.info.run_id, *allow)
    assert ended.code == 0, ended.err
    assert "verdict: identical" in ended.out
    (rerun,) = runs("run")
    assert rerun.data.tags["tunewright.state"] == "pruned"
    assert runs("trial")[0].data.tags["tunewright.rerun_by"] == rerun.info.run_id


def wait_for(process: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def facts(folder: Path) -> tuple[dict, dict, str, list]:
    """Return what a store's only run gave: metrics, histories, predictions and the run."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_runs(["1"], "tags.`tunewright.kind` = 'run'")
    (run,) = found
    metrics = {k: v for k, v in run.data.metrics.items() if not is_cost(k)}
    histories = {
        key: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)]
        for key in metrics
    }
    return metrics, histories, artifact(run, "predictions.json").read_text(), run


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_had_been(cli, tiny):
    own = [
        o for o in tiny if not o.startswith(("training.eval", "training.log", "training.epochs"))
    ]
    own += ["training.epochs=100", "training.eval_every=25", "training.logging_steps=5"]
    own += ["training.checkpoint_every=2", "training.threads=1", "optimizer.learning_rate=1e-3"]
    folder = Path("mlruns/checkpoints")

    def states() -> set[str]:
        return {path.name for path in folder.glob("*/state-*.pt")}

    chance = random.Random()
    for attempt in range(4):
        before = states()
        process = subprocess.Popen(
            [*COMMAND, *own], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            wait_for(process, lambda before=before: states() - before)
            if attempt < 3:
                time.sleep(chance.uniform(0, 0.5))
                assert process.poll() is None, process.communicate()
                process.kill()
                process.wait()
                continue
            # The last time it is asked to end, and nobody else can be at the run meanwhile.
            (run_id,) = {path.parent.name for path in folder.glob("*/state-*.pt")}
            with hydra_app("train") as hydra:
                config = without_hydra(compose(hydra, own))
            store = open_store(experiment(own).tracking)
            with pytest.raises(TrackingError, match="still running"):
                resume(config, run_id)
            assert find_cut_off(store, config) is None
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=60)
            assert process.returncode == 130, said
        finally:
            process.kill()
            process.wait()
    reason = store.client.get_run(run_id).data.tags["tunewright.reason"]
    step = int(reason.partition("the state of step ")[2].split()[0])
    assert states() == {f"state-{step:08d}.pt"}
    assert find_cut_off(store, config) == run_id

    ended = cli("train", "--resume", *own)
    assert ended.code == 0, ended.err
    assert f"goes on from step {step}" in ended.out
    straight = cli("train", *own, "tracking.dir=straight")
    assert straight.code == 0, straight.err
    metrics, histories, predictions, run = facts(Path("mlruns"))
    expected = facts(Path("straight"))
    assert metrics == expected[0]
    assert histories == expected[1]  # each point once
    assert predictions == expected[2]
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    assert "tunewright.reason" not in run.data.tags
    assert artifact(run, "train.log").is_file()
    assert artifact(
        run, "train.2.log"
    ).is_file()  # of the process that was asked to end, and of ours
    assert not list(folder.iterdir())
    with pytest.raises(TrackingError, match="the run is complete"):
        resume(config, run_id)


def test_a_trial_that_was_killed_goes_on_in_the_next_start_of_its_search(cli, tiny, runs):
    own = [o for o in tiny if not o.startswith("training.e")]
    own += ["training.epochs=60", "training.eval_every=5", "training.checkpoint_every=5"]
    own += ["training.threads=1", "optimizer.learning_rate=1e-3"]
    search = ["train", "-m", *own, "seed=1,2", "hydra.sweeper.study_name=cut"]
    search.append("hydra.sweeper.n_jobs=1")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *search], stdout=subprocess.DEVNULL
    )
    states = partial(Path("mlruns/checkpoints").glob, "*/state-*.pt")
    try:
        deadline = time.monotonic() + 90
        while not list(states()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    (run_id,) = {path.parent.name for path in states()}
    ended = cli(*search)
    assert ended.code == 0, ended.err
    trials = runs("trial")
    assert len(trials) == 2
    (trial,) = [t for t in trials if t.info.run_id == run_id]
    assert trial.info.status == "FINISHED"
    assert "tunewright.reason" not in trial.data.tags
    assert int(trial.data.tags["tunewright.trial"]) == 2  # 0 was killed
    assert cli("train", *own, f"seed={trial.data.params['seed']}").code == 0
    (straight,) = runs("run")
    assert straight.data.tags["tunewright.predictions"] == trial.data.tags["tunewright.predictions"]
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    points = [
        [(p.step, p.value) for p in client.get_metric_history(r.info.run_id, "val/loss")]
        for r in (straight, trial)
    ]
    assert points[0] == points[1]
    study = find_study("cut", "mlruns/studies/cut/study.journal")
    assert (
        len(study.trials[2].intermediate_values) == len(points[1]) - 1
    )  # the end is reported as the value
    assert not list(Path("mlruns/checkpoints").iterdir())
