"""Any logged run is run again from its record alone, and checked against it."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.rows import rows, write_rows
from tests.support.stores import artifact, make_store


def predictions(run) -> str:
    return run.data.tags["tunewright.predictions"]


def test_run_alone_as_trial_and_after_others_is_bit_identical(cli, tiny, runs):
    cli("train", *tiny, "seed=1")
    cli("train", *tiny, "seed=2", "training.batch_size=8", "training.precision=bfloat16")
    cli("train", *tiny, "seed=1")
    cli("train", "-m", *tiny, "seed=2,1")
    alone = [predictions(r) for r in runs("run") if r.data.params["seed"] == "1"]
    (tried,) = [predictions(t) for t in runs("trial") if t.data.params["seed"] == "1"]
    assert len(alone) == 2
    assert {*alone, tried} == {tried}


@pytest.fixture(scope="module")
def logged(tmp_path_factory, tiny_model):
    """Make a folder with one run in its store; tests work on copies."""
    folder = tmp_path_factory.mktemp("logged")
    write_rows(folder / "reviews.jsonl", rows(60))
    shutil.copytree(tiny_model, folder / "tiny")
    given = "model=hub model.checkpoint=tiny data=files data.train=reviews.jsonl data.text=review"
    more = "data.label=stars training.epochs=1 training.max_length=16"
    make_store(folder, [*given.split(), *more.split()])
    return folder


@pytest.fixture
def record(logged, working_folder):
    """Work where that run was made: the run."""
    folder = working_folder / "here"
    shutil.copytree(logged, folder)
    os.chdir(folder)
    store = MlflowClient(f"sqlite:///{logged}/mlruns/mlflow.db")
    (run,) = store.search_runs([store.get_experiment_by_name("tunewright").experiment_id])
    return run


def of(record, logged) -> tuple[str, ...]:
    return ("rerun", record.info.run_id, f"tracking.dir={logged}/mlruns")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 42", "seed: 42\ntask2: {_target_: os.system, _args_: [touch hit]}", "_target_"),
        ("encoding: utf-8", "encoding: ${oc.env:HOME}", "${"),
        ("train: reviews.jsonl", "train: ../reviews.jsonl", "--allow"),
        ("checkpoint: tiny", "checkpoint: /etc", "--allow /"),
        ("batch_size: 16", "batch_size: 16\n  batchsize: 16", "training.batchsize is not a key"),
        ("seed: 42", "seed: 42\n#" + "x" * 2**20, "bytes"),
        ("seed: 42", "seed: [42", "line"),
        ("seed: 42", BOMB, "anchor"),
        ("seed: 42", "seed: !!python/object/apply:os.system [touch hit]", "tag"),
    ],
)
def test_rerun_refuses_a_tampered_record(cli, record, logged, old, new, said):
    config = artifact(record, "config.yaml")
    whole = config.read_text(encoding="utf-8")
    assert whole.count(old) == 1
    try:
        config.write_text(whole.replace(old, new), encoding="utf-8")
        ended = cli(*of(record, logged))
    finally:
        config.write_text(whole, encoding="utf-8")
    assert ended.code == 2, ended.out
    assert record.info.run_id in ended.err
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not Path("hit").exists()
    assert not Path("mlruns/outputs/hit").exists()


def test_record_cannot_read_environment_variables(cli, record, logged, monkeypatch):
    monkeypatch.setenv("SESAME", "zq7opened")
    provenance = artifact(record, "provenance.json")
    whole = provenance.read_text(encoding="utf-8")
    content = json.loads(whole)
    content["overrides"] = [r"a=${oc.env:SESAME}", r"a=\${oc.env:SESAME}"]
    content["choices"] = {"model": "${oc.env:SESAME}", "${oc.env:SESAME}": "x"}
    client = MlflowClient(f"sqlite:///{logged}/mlruns/mlflow.db")
    try:
        provenance.write_text(json.dumps(content), encoding="utf-8")
        ended = cli(*of(record, logged))
        assert ended.code == 0, ended.err
        client.rename_experiment(record.info.experiment_id, "${oc.env:SESAME}")
        refused = cli(*of(record, logged))
        assert refused.code == 2
        assert "tracking.experiment=" in refused.err
    finally:
        provenance.write_text(whole, encoding="utf-8")
        client.rename_experiment(record.info.experiment_id, "tunewright")
    assert "zq7opened" not in ended.out + ended.err
    (rerun, _) = client.search_runs([record.info.experiment_id])
    kept = artifact(rerun, "provenance.json").read_text(encoding="utf-8")
    assert "${oc.env:SESAME}" in kept
    assert "zq7opened" not in kept + str(rerun.data.tags)
    files = [path for path in logged.rglob("*") if path.is_file()]
    assert not [path for path in files if b"zq7opened" in path.read_bytes()]
    client.delete_run(rerun.info.run_id)


def test_dry_rerun_lists_drift_and_overrides(cli, record, logged):
    ended = cli(*of(record, logged), "--dry-run", "training.batch_size=8", "optimizer=sgd")
    assert ended.code == 0, ended.err
    assert "training.batch_size 16 -> 8" in ended.out
    assert "optimizer.name AdamW -> SGD" in ended.out
    assert "data        same" in ended.out
    (run,) = MlflowClient(f"sqlite:///{logged}/mlruns/mlflow.db").search_runs(
        [record.info.experiment_id]
    )
    assert run.info.run_id == record.info.run_id


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.batchsize=8", "Did you mean training.batch_size?"),
        ("seed=1,2", "one value"),
        ("~seed", "one value"),
        ("optimizer=nadamm", "Did you mean nadam?"),
    ],
)
def test_rerun_refuses_invalid_overrides(cli, record, logged, override, said):
    ended = cli(*of(record, logged), override)
    assert ended.code == 2
    assert said in ended.err


def test_rerun_refuses_unknown_runs_and_studies(cli, tiny, runs):
    assert "nothing is recorded there yet" in cli("rerun", "nothing").err
    assert not Path("mlruns").exists()
    cli("train", "-m", *tiny, "optimizer.learning_rate=1e-2,10.0", "training.precision=float32")
    assert "tunewright runs" in cli("rerun", "nothing").err
    (study,) = runs("study")
    ended = cli("rerun", study.info.run_id)
    assert ended.code == 2
    assert study.data.tags["tunewright.best_run_id"] in ended.err


def test_verify_refuses_a_failed_run(cli, tiny, runs, allow):
    cli("train", *tiny)
    (run,) = runs("run")
    store = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    store.set_tag(run.info.run_id, "tunewright.state", "failed")
    ended = cli("rerun", run.info.run_id, *allow, "--verify")
    assert ended.code == 2
    assert "state is failed" in ended.err
    assert len(runs("run")) == 1


def test_rerun_of_pruned_trial_ends_at_the_same_step(cli, tiny, runs, allow):
    pruner = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=1.1")
    late = ("hydra.sweeper.pruner.n_warmup_steps=2", "training.epochs=3", "training.eval_every=1.0")
    cli("train", "-m", *tiny, *pruner, *late, "evaluation.early_rows=7", "seed=1,2")
    pruned, _ = runs("trial")
    assert pruned.data.tags["tunewright.state"] == "pruned"
    assert "early/loss" in pruned.data.metrics
    ended = cli("rerun", pruned.info.run_id, "--verify", *allow)
    assert ended.code == 0, ended.err
    assert "verdict: identical" in ended.out


def test_record_holds_packages_choices_and_data_digests(record):
    kept = json.loads(artifact(record, "provenance.json").read_text(encoding="utf-8"))
    assert kept["packages"]["torch"] == version("torch")
    assert kept["choices"]["optimizer"] == "adamw"
    inputs = json.loads(artifact(record, "inputs.json").read_text(encoding="utf-8"))
    split = inputs["data"]["splits"]["train"]
    (train, _) = record.inputs.dataset_inputs
    assert train.dataset.digest == split["digest"]
    assert json.loads(train.dataset.profile) == {"num_rows": split["rows"]}
