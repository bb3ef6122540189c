"""A run that was cut off resumes from its checkpoint as if it never had been."""

import json
import shutil
import signal
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.common.errors import TrackingError
from pipeline.common.session import session
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.evaluation.names import is_cost
from pipeline.jobs.resume import find_cut_off, resume
from pipeline.tracking import open_store
from pipeline.tracking.run_log import RunLog
from pipeline.training.best import Evaluations
from pipeline.training.checkpoints import Checkpoints
from tests.support.experiments import Kept, Log, experiment, run_once, trial
from tests.support.snapshots import files, same
from tests.support.stores import artifact


@pytest.mark.parametrize("value", ["0", "0.0", "-1", "true", "[1.0]", "inf", "often"])
def test_invalid_checkpoint_cadence_is_refused(cli, value):
    ended = cli("train", f"training.checkpoint_every={value}")
    assert ended.code == 2
    assert "training.checkpoint_every=" in ended.err
    assert "whole number of steps" in ended.err


def test_run_resumes_from_every_step_bit_for_bit(tiny, working_folder, monkeypatch):
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
    uncut = run_once(whole, straight, working_folder, checkpoints=every)
    steps = [int(path.stem[6:]) for path in sorted(states.glob("state-*"))]
    assert steps == list(range(1, 14))
    for step in steps:
        one = working_folder / f"from-{step}"
        shutil.copytree(states, one, ignore=lambda *_: [])
        for path in one.glob("state-*"):
            if path.name != f"state-{step:08d}.pt":
                path.unlink()
        cut = Kept()
        resumed = run_once(whole, cut, working_folder, checkpoints=Checkpoints(one, keep=1))
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
def test_terminated_run_keeps_state_of_that_step_and_resumes(tiny, working_folder, step, own):
    two = ["training.epochs=2", "training.eval_every=4", "evaluation.test=true"]
    whole = experiment(tiny, *two, *own)
    straight, cut, rest = Kept(), Terminated(step), Kept()
    uncut = run_once(whole, straight, working_folder)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=f"the state of step {step} is saved"):
        run_once(whole, cut, working_folder)
    assert signal.getsignal(signal.SIGTERM) == former
    folder = working_folder / "mlruns" / "checkpoints" / "none"
    assert f"state-{step:08d}.pt" in files(folder)
    resumed = run_once(whole, rest, working_folder)
    assert not folder.exists()
    assert resumed.scores == uncut.scores
    assert {k: v for k, v in resumed.metrics.items() if not is_cost(k)} == {
        k: v for k, v in uncut.metrics.items() if not is_cost(k)
    }
    assert rest.tables == straight.tables
    assert rest.weights == straight.weights
    logged = [point for point in (*cut.points, *rest.points) if point[0] > 0]
    assert logged == [point for point in straight.points if point[0] > 0]


def test_second_sigterm_ends_the_run_at_once(tiny, working_folder):
    record = Terminated(4, times=2)
    with pytest.raises(KeyboardInterrupt, match="twice"):
        run_once(experiment(tiny), record, working_folder)
    assert not list((working_folder / "mlruns" / "checkpoints").iterdir())


def test_a_paused_trial_leaves_nothing_on_disk(tiny, working_folder):
    whole = experiment(tiny, "training.checkpoint_every=1", "training.eval_every=3")
    paused = run_once(whole, Log(), working_folder, trial(iter(["pause"])))
    assert paused.state == "paused"
    assert not list((working_folder / "mlruns" / "checkpoints").iterdir())


def test_resume_needs_the_same_run_on_the_same_rows(cli, tiny, runs, monkeypatch):
    own = [*tiny, "training.checkpoint_every=1"]

    def interrupted(_, __, step):
        if step == 4:
            raise KeyboardInterrupt

    def config(*more):
        with hydra_app("train") as hydra:
            return without_hydra(compose(hydra, [*own, *more]))

    store = open_store(experiment(own).tracking)
    assert find_cut_off(store, config()) is None
    monkeypatch.setattr(RunLog, "on_metrics", interrupted)
    assert cli("train", *own).code == 130
    (run,) = runs("run")
    run_id = run.info.run_id
    assert find_cut_off(store, config()) == run_id
    assert find_cut_off(store, config("training.threads=7", "tracking.experiment=tunewright"))
    assert find_cut_off(store, config("seed=1")) is None
    rows = Path("reviews.jsonl").read_text().splitlines(keepends=True)
    Path("reviews.jsonl").write_text("".join(rows[1:]))
    session().clear()
    with pytest.raises(TrackingError, match="began with other data"):
        resume(config(), run_id)
    assert find_cut_off(store, config()) == run_id  # a refusal takes nothing away
    with pytest.raises(TrackingError, match="no such run"):
        resume(config(), "0" * 32)
    Path("reviews.jsonl").write_text("".join(rows))
    session().clear()
    (state,) = Path("mlruns/checkpoints", run_id).glob("state-*.pt")
    state.write_bytes(b"torn")
    with pytest.raises(TrackingError, match="cannot be read: File is not a zip file"):
        resume(config(), run_id)
    assert runs("run")[0].data.tags["tunewright.state"] == "failed"  # as it was


def test_run_killed_before_first_checkpoint_restarts_under_its_record(cli, tiny, runs, monkeypatch):
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
    log = RunLog.on_metrics

    def interrupted(hook, metrics, reached):
        log(hook, metrics, reached)
        if reached == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "on_metrics", interrupted)
        assert cli(*command).code == 130


def test_run_resumed_by_id_keeps_its_record(cli, tiny, runs, tiny_model, monkeypatch):
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


def test_interrupted_rerun_resumes_to_its_verdict(cli, tiny, runs, tiny_model, monkeypatch):
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
