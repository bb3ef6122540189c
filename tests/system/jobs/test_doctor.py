"""A search that is killed is repaired by `tunewright doctor`, and then resumes."""

from pathlib import Path

from pipeline.search.study.trials import RUN_ID
from tests.support.commands import Started
from tests.support.studies import trials_in
from tests.support.waiting import wait_until


def test_doctor_repairs_killed_search_which_then_resumes(cli, tiny, runs):
    args = ("train", "-m", *tiny, "training.epochs=3", "seed=1,2", "hydra.sweeper.study_name=cut")
    args = (*args, "hydra.sweeper.n_jobs=1")
    process = Started(*args)
    folder = Path("mlruns/studies/cut")
    wait_until(lambda: any(RUN_ID in t.user_attrs for t in trials_in(folder)), process)
    assert "all is well" in cli("doctor").out  # it lives
    process.kill()
    process.wait()

    found = cli("doctor")
    assert found.code == 1
    assert "study cut, trial 0: is running in the study's storage, but" in found.out
    assert "is RUNNING in MLflow, but its process was killed; with --fix: closed" in found.out
    assert "study cut: its run is RUNNING in MLflow, but no process is at it; " in found.out
    assert len(_to_repair(found)) == 3
    assert runs("study")[0].info.status == "RUNNING"  # just looking changes nothing

    mended = cli("doctor", "--fix")
    assert mended.code == 0
    assert len(_to_repair(mended)) == 3
    assert runs("study")[0].data.tags["tunewright.state"] == "unfinished"
    assert [t.info.status for t in runs("trial")] == ["KILLED"]
    again = cli("doctor")
    assert (again.code, _to_repair(again)) == (0, [])

    ended = cli(*args)
    assert ended.code == 0, ended.err
    complete = [t for t in runs("trial") if t.info.status == "FINISHED"]
    assert sorted(t.data.params["seed"] for t in complete) == ["1", "2"]
    assert "all is well" in cli("doctor").out


def _to_repair(ended):
    """What doctor found, but for the trial's checkpoint, if it was killed after one."""
    kept = ("all is well", "left alone")
    return [line for line in ended.out.splitlines() if not any(word in line for word in kept)]
