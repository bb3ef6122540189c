"""Failed trials run again by `tunewright retry`: in their place, and counted once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from pipeline.search.study.liveness import Heartbeat
from pipeline.search.study.trials import REPLACES
from pipeline.tasks.classification import Classification
from tests.support.failing import fail_first
from tests.support.studies import open_study, rename


@pytest.fixture
def failed(cli, tiny, monkeypatch) -> Path:
    """The folder of a study with two trials, of which the first failed."""
    fail_first(monkeypatch)
    cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine")
    return Path("mlruns/studies/mine")


def test_failed_trials_of_a_study_of_before_renamed_and_added_keys(cli, failed):
    names = {"training.frozen_layer_cache": "training.prefix_cache"}
    rename(failed, names, ["data.layout", "data.answers", "task.stride"])
    again = cli("retry", "mine")
    assert again.code == 0, again.err
    assert "1 done before, 1 to go" in again.out


def test_failed_trials_are_run_again_and_counted_once(cli, tiny, runs, monkeypatch):
    load = Classification.load_model

    def sometimes(self):
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        if len(calls) == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return load(self)

    calls: list[None] = []
    monkeypatch.setattr(Classification, "load_model", sometimes)
    cli("train", "-m", *tiny, "seed=1,2,3", "hydra.sweeper.study_name=mine")

    again = cli("retry", "mine")
    assert again.code == 0, again.err
    assert "2 done before, 1 to go" in again.out
    assert "3 of 3 trials done, 1 failed" in again.out
    refused = cli("retry", "mine")
    assert refused.code == 2
    assert "study mine has no failed trials to run again; 1 failed for their" in refused.err
    every = cli("retry", "mine", "--all")
    assert every.code == 0, every.err
    assert "3 of 3 trials done, 0 failed" in every.out

    statuses = [t.info.status for t in runs("trial")]
    assert statuses == ["FAILED", "FAILED", "FINISHED", "FINISHED", "FINISHED"]
    assert [t.data.params["seed"] for t in runs("trial")] == ["1", "2", "3", "1", "2"]
    assert runs("study")[0].data.tags["tunewright.state"] == "complete"


def test_a_retry_that_is_refused_queues_nothing(cli, failed):
    for wrong in (
        "hydra.sweeper.n_jobs=0",
        "hydra.sweeper.warm_start=nowhere",
        "training.epochs=-1",
        "training.epochs=2",
    ):
        refused = cli("retry", "mine", wrong)
        assert refused.code == 2, wrong
        assert wrong.partition("=")[0] in refused.err
        assert len(open_study(failed).trials) == 2, wrong
    again = cli("retry", "mine")
    assert again.code == 0, again.err
    assert "2 of 2 trials done, 0 failed" in again.out
    assert [t.user_attrs.get(REPLACES) for t in open_study(failed).trials] == [None, None, 0]


@pytest.mark.usefixtures("failed")
def test_dry_retry_lists_trials_and_writes_nothing(cli, working_folder):
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in working_folder.rglob("*") if path.is_file()}

    before = content()
    for dry in ("--dry-run", "hydra.sweeper.dry_run=true"):
        ended_now = cli("retry", "mine", dry)
        assert ended_now.code == 0, ended_now.err
        assert "nothing was run or written" in ended_now.out
        assert ended_now.out.endswith("trial 0 would be run again: seed=1\n")
        assert content() == before
        assert cli("retry", "mine", dry, "hydra.sweeper.n_jobs=0").code == 2
    again = cli("retry", "mine")  # the dry one is not the command that is kept
    assert "2 of 2 trials done, 0 failed" in again.out


def test_retry_resumes_named_sweep_that_a_bug_ended(cli, tiny, runs, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such device")

    Path("sweeps").mkdir()
    Path("sweeps/seeds.yaml").write_text("about: mine\nspace: {seed: [1, 2, 3, 4]}\n")
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "load_model", broken)
        assert cli("sweep", "seeds", *tiny).code == 1  # the same traceback three times
    ended_now = cli("retry", "seeds")  # a name's beginning is enough
    assert ended_now.code == 0, ended_now.err
    assert "4 of 4 trials done, 0 failed" in ended_now.out
    complete = [t for t in runs("trial") if t.info.status == "FINISHED"]
    assert sorted(t.data.params["seed"] for t in complete) == list("1234")
    assert len(runs("study")) == 1


def test_retry_refuses_running_and_unknown_studies(cli, tiny):
    cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine")
    unknown = cli("retry", "yours")
    assert unknown.code == 2
    assert "yours: no study of that name" in unknown.err
    assert "study mine has no failed trials to run again." in cli("retry", "mine").err

    folder = Path("mlruns/studies/mine")
    study = open_study(folder)
    asked = study.ask()
    Heartbeat(study).sign(asked)
    running = cli("retry", "mine")
    assert running.code == 2
    assert "study mine is running now: trial 2" in running.err
    study.tell(asked, state=TrialState.FAIL)

    (folder / "study.journal").rename(folder / str(Path("mine.db").absolute()))
    gone = cli("retry", "mine")
    assert gone.code == 2
    assert "hydra.sweeper.storage=" in gone.err


@pytest.fixture
def changed(failed: Path) -> Callable[..., None]:
    """What changes the record of the failed study, as somebody with access to the store may."""
    client = MlflowClient(f"sqlite:///{failed.absolute().parents[1]}/mlflow.db")
    (study,) = client.search_runs(
        [client.get_experiment_by_name("tunewright").experiment_id],
        "tags.`tunewright.kind` = 'study'",
    )

    def change(tag: str, *overrides: str) -> None:
        known = study.data.tags[f"tunewright.{tag}"]
        text = (
            json.dumps([*json.loads(known), *overrides])
            if overrides
            else str(Path("mine.db").absolute())
        )
        client.set_tag(study.info.run_id, f"tunewright.{tag}", text)

    return change


def test_a_command_line_that_somebody_changed_runs_and_reads_nothing(cli, changed, working_folder):
    working_folder.with_name("private.csv").write_text("review,stars\nsecret,a\n")
    for override, said in (
        (
            "+hydra.job_logging.handlers.x={class:logging.FileHandler,filename:ran}",
            "hydra.job_logging.handlers.x=… yourself",
        ),
        ("data.test=../private.csv", "lies outside the working folder; if you trust"),
    ):
        changed("overrides", override)
        for verb in (["retry", "mine"], ["confirm", "mine", "--seeds", "2"]):
            ended_now = cli(*verb)
            assert ended_now.code == 2, (override, verb, ended_now.out)
            assert said in ended_now.err, verb
    assert not Path("ran").exists()


def test_a_storage_that_somebody_changed_is_not_opened(cli, changed):
    changed("storage")
    for verb in ("retry", "report"):
        ended_now = cli(verb, "mine")
        assert ended_now.code == 2
        assert "your account did not sign that" in ended_now.err
