"""Isolated trials: each is a process of its own."""

from pathlib import Path

from tests.support.studies import open_study


def test_isolated_trials_have_a_process_each(cli, tiny, runs):
    given = ("hydra.sweeper.isolation=trial", "hydra.sweeper.study_name=apart")
    ended = cli("train", "-m", *tiny, "seed=1,2", *given)
    assert ended.code == 0, ended.err
    study = open_study(Path("mlruns/studies/apart"))
    assert len({t.user_attrs["owner"]["pid"] for t in study.trials}) == 2
    assert [t.info.status for t in runs("trial")] == ["FINISHED", "FINISHED"]
