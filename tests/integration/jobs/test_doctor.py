"""What `tunewright doctor` finds after crashes, what it mends, and what it leaves alone."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from optuna.trial import TrialState

from pipeline.common.process import ABANDONED, identity
from pipeline.jobs import doctor
from pipeline.search import plan
from pipeline.search.study.liveness import OWNER, Heartbeat
from pipeline.tracking.dead_runs import close_killed
from pipeline.training.checkpoints import Checkpoints
from tests.support.snapshots import write
from tests.support.stores import artifact
from tests.support.studies import DEAD, REMOTE, open_study


def own_run(name: str, process: dict | None, output: str | None = None) -> str:
    """Open a run on its own as a process does, and leave it open."""
    client = MlflowClient(f"sqlite:///{Path.cwd() / 'mlruns' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'tunewright'")
    signed = {"tunewright.process": json.dumps(process)} if process else {}
    kind = {"tunewright.kind": "run", "tunewright.state": "running"}
    if output:
        kind["tunewright.output"] = output
    run = client.create_run(experiment.experiment_id, run_name=name, tags={**kind, **signed})
    return str(run.info.run_id)


@pytest.mark.usefixtures("mine")
def test_doctor_repairs_files_that_a_crash_left(cli, runs):
    (study,), trials = runs("study"), runs("trial")
    best, other = sorted(
        trials, key=lambda t: t.info.run_id != study.data.tags["tunewright.best_run_id"]
    )
    shutil.copytree(artifact(best, "model"), artifact(other, "model"))
    scratch = [Path("mlruns/studies/mine/1/model"), Path("mlruns/outputs/2026-01-01/dead/model")]
    scratch.append(Path("mlruns/outputs/2026-01-01/later/model"))
    living = Path("mlruns/outputs/2026-01-01/living/model")
    for folder in (*scratch, living):
        folder.mkdir(parents=True)
    dead = own_run("dead", DEAD)  # of an older version: called after its folder
    named = own_run("minilm · tweets", DEAD, output="outputs/2026-01-01/later")
    own_run("living", identity())

    assert cli("doctor", "mine").code == 1
    mended = cli("doctor", "--fix")
    assert mended.code == 0
    assert len(mended.out.splitlines()) == 6
    assert [artifact(t, "model").is_dir() for t in (best, other)] == [True, False]
    assert [folder.exists() for folder in (*scratch, living)] == [False, False, False, True]
    statuses = {r.info.run_id: r.info.status for r in runs("run")}
    assert statuses.pop(dead) == statuses.pop(named) == "KILLED"
    assert list(statuses.values()) == ["RUNNING"]
    assert "mlflow.db: all is well" in cli("doctor").out


@pytest.mark.usefixtures("mine")
def test_doctor_reports_what_only_a_person_can_repair(cli):
    Path("mlruns/studies/mine").rename("mlruns/studies/yours")
    Path("mlruns/studies/nothing").mkdir()
    Path("mlruns/studies/nothing/study.journal").touch()
    ended = cli("doctor", "--fix")
    assert ended.code == 1
    assert "yours: a study without a run in MLflow; the command that began it" in ended.out
    assert "nothing: a study without a run in MLflow, in which nothing is left" in ended.out
    assert "study mine: sqlite:" in ended.out
    assert "has 2 complete trials of it, but" in ended.out
    assert cli("doctor", "nothing").code == 0
    assert cli("doctor", "yours").code == 1
    assert cli("doctor", "neither").code == 2


def test_a_best_trial_deleted_in_mlflow_is_said_and_restored(cli, tiny, runs):
    cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine")
    best = runs("study")[0].data.tags["tunewright.best_run_id"]
    MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db").delete_run(best)
    refused = cli("best", "mine")
    assert refused.code == 2
    assert f"mine, its best trial's run: {best}: this run was deleted" in refused.err
    assert "was deleted in MLflow" in Path(cli("report", "mine").out.strip()).read_text()
    assert f"the run {best} of its best trial, 0, was deleted" in cli("doctor", "mine").out
    assert f"the run {best} of its best trial, 0, was deleted" in cli("compare", "mine").err
    assert cli("doctor", "mine", "--fix").code == 0
    assert f"run        {best}" in cli("best", "mine").out


def test_a_search_holds_what_it_found_where_its_runs_are_deleted_for_good(cli, mine, runs):
    store = SqlAlchemyStore(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db", "mlruns/artifacts")
    ids = [run.info.run_id for kind in ("study", "trial") for run in runs(kind)]
    for run_id in ids:
        store.delete_run(run_id)
        store._hard_delete_run(run_id)  # as `mlflow gc` does
    folder = cli("doctor")
    assert "in which nothing is left to do; it may be deleted" in folder.out
    assert folder.code == 0
    again = cli(*mine)
    assert again.code == 0, again.err
    assert "2 of 2 trials done, 0 failed" in again.out
    best = runs("study")[0].data.tags["tunewright.best_run_id"]
    assert best in ids
    for verb in ("doctor", "compare"):
        said = cli(verb, "mine")
        assert said.code == 0
        assert f"the run {best} of its best trial" in said.out + said.err
    refused = cli("best", "mine")
    assert refused.code == 2
    assert f"mine, its best trial's run: {best}: no such run" in refused.err
    assert cli("confirm", "mine", "--seeds=2").code == 0


@pytest.mark.usefixtures("mine")
def test_doctor_leaves_another_machine_alone(cli, runs):
    study = open_study(Path("mlruns/studies/mine"))
    asked = study.ask()
    asked.set_user_attr(OWNER, REMOTE)
    run = own_run("far", REMOTE)
    ended = cli("doctor", "--fix")
    assert ended.code == 0
    assert "study mine: trial 2: of another machine, another; " in ended.out
    assert f"run {run}: is of another machine, another; left alone" in ended.out
    assert study.trials[2].state == TrialState.RUNNING
    assert [r.info.status for r in runs("run")] == ["RUNNING"]


@pytest.mark.usefixtures("mine")
def test_doctor_closes_run_by_its_trial_and_leaves_live_worker(cli, runs):
    client = MlflowClient(f"sqlite:///{Path.cwd() / 'mlruns' / 'mlflow.db'}")
    study, run = open_study(Path("mlruns/studies/mine")), runs("trial")[1]
    client.update_run(run.info.run_id, status="RUNNING")
    assert "all is well" in cli("doctor").out  # this process ran the trial, and lives
    with Heartbeat(study) as heartbeat:
        asked = study.ask()
        heartbeat.sign(asked)
    client.create_run(
        run.info.experiment_id,
        tags={
            "tunewright.kind": "trial",
            "tunewright.study": "mine",
            "tunewright.trial": str(asked.number),
            "tunewright.state": "running",
        },
    )
    assert "all is well" in cli("doctor").out
    asked.set_user_attr(OWNER, {**identity(), ABANDONED: "failed"})
    ended = cli("doctor", "mine", "--fix")
    assert ended.code == 0
    assert [r.info.status for r in runs("trial")] == ["FINISHED", "RUNNING", "KILLED"]
    assert study.trials[2].state == TrialState.FAIL


@pytest.mark.usefixtures("mine")
def test_doctor_names_the_missing_best_trial(cli, runs):
    (before,) = runs("study")
    client = MlflowClient(f"sqlite:///{Path.cwd() / 'mlruns' / 'mlflow.db'}")
    client.delete_tag(before.info.run_id, "tunewright.best_run_id")
    mended = cli("doctor", "--fix")
    assert mended.code == 0
    assert "does not name trial" in mended.out
    assert "; repaired: named" in mended.out
    assert runs("study")[0].data.tags == before.data.tags
    assert "all is well" in cli("doctor").out


def test_doctor_takes_glob_signs_in_a_study_name_literally(cli, tiny, monkeypatch):
    named = (*tiny, "seed=1,2", "hydra.sweeper.study_name='a[b]'")
    refused = cli("train", "-m", *named)
    assert refused.code == 2
    assert "expected letters, digits, spaces and -_. only" in refused.err
    with monkeypatch.context() as patch:  # an earlier version took the name
        patch.setattr(plan, "NOT_IN_NAMES", "")
        assert cli("train", "-m", *named).code == 0
    own, other = (Path(f"mlruns/studies/{name}/1/model") for name in ("a[b]", "ab"))
    own.mkdir(parents=True)
    other.mkdir(parents=True)
    shutil.copy(own.parents[1] / "study.journal", other.parents[1])
    mended = cli("doctor", "a[b]", "--fix")
    assert mended.code == 0
    assert len(mended.out.splitlines()) == 1
    assert [folder.is_dir() for folder in (own, other)] == [False, True]


@pytest.mark.parametrize("error", [MlflowException("database is locked"), OSError("no space")])
def test_doctor_continues_after_a_failed_repair(cli, tiny, monkeypatch, error):
    def close(store, run_id):
        if run_id == stuck:
            raise error
        close_killed(store, run_id)

    cli("train", *tiny)
    stuck, other = own_run("stuck", DEAD), own_run("other", DEAD)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.jobs.leftovers.close_killed", close)
        mended = cli("doctor", "--fix")
    assert mended.code == 1
    said = f"{type(error).__name__}: {error}"
    assert f"run {stuck}: is RUNNING in MLflow, but its process is gone; could not" in mended.out
    assert f"could not be repaired: {said}\n" in mended.out
    assert f"run {other}: is RUNNING in MLflow, but its process is gone; repaired: " in mended.out
    assert cli("doctor", "--fix").code == 0


@pytest.mark.usefixtures("mine")
def test_doctor_does_not_claim_repairs_of_another_process(cli, monkeypatch):
    study = open_study(Path("mlruns/studies/mine"))
    study.ask().set_user_attr(OWNER, DEAD)
    monkeypatch.setattr(doctor, "settle_one", lambda *_: False)
    ended = cli("doctor", "mine", "--fix")
    assert ended.code == 0
    assert "its process is gone; another process settled it" in ended.out
    assert "repaired" not in ended.out


def test_doctor_deletes_only_checkpoints_of_ended_runs(cli, tiny, runs):
    cli("train", *tiny)
    (run,) = runs("run")
    over, unknown = (Path("mlruns/checkpoints", name) for name in (run.info.run_id, "unknown"))
    for folder in (over, unknown):
        write(Checkpoints(folder, keep=1), 3)
    ended = cli("doctor", "--fix")
    assert ended.code == 0, ended.out
    assert f"checkpoints of run {run.info.run_id}: the run is over; repaired: deleted" in ended.out
    assert "has no such run; left alone" in ended.out
    assert not over.exists()
    assert unknown.is_dir()
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    client.set_tag(run.info.run_id, "tunewright.state", "failed")
    write(Checkpoints(over, keep=1), 3)
    assert f"tunewright resume {run.info.run_id}" in cli("doctor", "--fix").out
    assert over.is_dir()


def contents(folder: Path) -> dict[Path, bytes]:
    """Return a folder's files."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copied_store_is_refused_and_mended_and_leaves_the_original_alone(
    cli, tiny, allow, working_folder
):
    own = (*tiny, f"tracking.dir={working_folder / 'mlruns'}")
    assert cli("train", "-m", *own, "seed=1,2", "hydra.sweeper.study_name=mine").code == 0
    before = contents(Path("mlruns"))
    shutil.copytree("mlruns", "copy")
    at = "tracking.dir=copy"
    for command in (("best", "mine"), ("train", *tiny), ("doctor",)):
        refused = cli(*command, at)
        assert refused.code == (1 if command == ("doctor",) else 2)
        assert str(working_folder / "mlruns") in refused.out + refused.err
    mended = cli("doctor", "--fix", at)
    assert mended.code == 0, mended.out
    best = cli("best", "mine", at).out
    assert f"{working_folder}/copy/artifacts" in best
    assert f"{working_folder}/mlruns" not in best
    run_id = best.partition("\nrun ")[2].split()[0]
    assert "verdict: identical" in cli("rerun", run_id, "--verify", *allow, at).out
    again = cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine", at)
    assert "2 done before" in again.out, again.err
    assert cli("doctor", at).code == 0
    assert contents(Path("mlruns")) == before
