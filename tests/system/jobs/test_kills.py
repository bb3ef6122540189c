"""Runs and trials killed at any time resume, and end as uninterrupted ones."""

import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.common.errors import TrackingError
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.evaluation.names import is_cost
from pipeline.jobs.resume import find_cut_off, resume
from pipeline.search.study.storage import find_study
from pipeline.tracking import open_store
from tests.support.commands import Started
from tests.support.experiments import experiment
from tests.support.stores import artifact
from tests.support.waiting import DEADLINE, wait_until


def facts(folder: Path) -> tuple[dict, dict, str, list]:
    """Return what a store's only run gave: metrics, histories, predictions and the run."""
    client = MlflowClient(f"sqlite:///{folder.absolute() / 'mlflow.db'}")
    found = client.search_runs(["1"], "tags.`tunewright.kind` = 'run'")
    (run,) = found
    metrics = {k: v for k, v in run.data.metrics.items() if not is_cost(k)}
    histories = {
        key: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)]
        for key in metrics
    }
    return metrics, histories, artifact(run, "predictions.json").read_text(), run


def test_run_killed_repeatedly_ends_as_an_uninterrupted_one(cli, tiny):
    own = [
        o for o in tiny if not o.startswith(("training.eval", "training.log", "training.epochs"))
    ]
    own += ["training.epochs=100", "training.eval_every=25", "training.logging_steps=5"]
    own += ["training.checkpoint_every=2", "training.threads=1", "optimizer.learning_rate=1e-3"]
    folder = Path("mlruns/checkpoints")

    def states() -> set[str]:
        return {path.name for path in folder.glob("*/state-*.pt")}

    chance = random.Random()
    for attempt in range(3):
        before = states()
        process = Started("train", "--resume", *own)
        try:
            wait_until(lambda before=before: states() - before, process)
            if attempt < 2:
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
            said = process.communicate(timeout=DEADLINE)
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
    assert f"resumed at step {step}" in ended.out
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


def test_killed_trial_resumes_when_its_search_restarts(cli, tiny, runs):
    own = [o for o in tiny if not o.startswith("training.e")]
    own += ["training.epochs=60", "training.eval_every=5", "training.checkpoint_every=5"]
    own += ["training.threads=1", "optimizer.learning_rate=1e-3"]
    search = ["train", "-m", *own, "seed=1,2", "hydra.sweeper.study_name=cut"]
    search.append("hydra.sweeper.n_jobs=1")
    process = Started(*search)
    states = partial(Path("mlruns/checkpoints").glob, "*/state-*.pt")
    try:
        wait_until(lambda: list(states()), process)
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
    assert len(study.trials[2].intermediate_values) == len({step for step, _ in points[1]})
    assert not list(Path("mlruns/checkpoints").iterdir())
