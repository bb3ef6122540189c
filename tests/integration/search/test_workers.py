"""The plan of a search says how many workers `auto` chose."""

import re


def test_the_plan_says_what_auto_chose(cli, tiny):
    auto = [*tiny, "hydra.sweeper.n_jobs=auto", "seed=1,2"]
    ended = cli("train", "-m", *auto, "hydra.launcher.threads=64", "--dry-run")
    assert re.search(r"\b1 worker \(auto: .*64 threads each", ended.out)
    ended = cli("train", "-m", *auto, "hydra/launcher=basic", "--dry-run")
    assert "1 worker (auto: " in ended.out
    ended = cli("train", "-m", *auto, "hydra/launcher=submitit_local", "--dry-run")
    assert ended.code == 2
    assert "n_jobs=auto" in ended.err
    assert "expected a whole number from 1" in ended.err
    ended = cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.n_jobs=many")
    assert "expected a whole number from 1 to 1,024, or auto" in ended.err
