"""A run leaves no secret in any file or stream."""

import json
import subprocess
from pathlib import Path

from tests.support.stores import artifact


def test_a_run_leaves_no_secret_anywhere(cli, tiny, runs):
    def git(*arguments):
        me = "-c", "user.name=me", "-c", "user.email=me@host"
        subprocess.run(["git", *me, *arguments], check=True, capture_output=True)

    settings = Path("settings.yaml")
    settings.write_text("n: 3\n", encoding="utf-8")
    git("init")
    git("add", settings.name)
    git("commit", "-m", "one")
    git("remote", "add", "origin", "https://ghp_sesame@github.com/x")
    secrets = 'password: sesame2\napi_key = "sesame3"\n{"token": "sesame4"}\n'
    settings.write_text(f"n: 3\n{secrets}", encoding="utf-8")

    given = "+hydra.job.env_set.HF_TOKEN=sesame", "data.train=gone://me:sesame@host/a.csv"
    cli("train", "-m", *tiny, "seed=1,2", given[0])
    ended = cli("train", *tiny, *given)
    assert ended.code == 2
    assert "sesame" not in ended.out + ended.err
    ours = {settings, *Path(".git").rglob("*")}
    files = [path for path in Path().rglob("*") if path.is_file() and path not in ours]
    assert any(path.name == "hydra.yaml" for path in files)
    assert [path for path in files if b"sesame" in path.read_bytes()] == []

    trial = runs("trial")[0]
    changes = artifact(trial, "code.diff").read_text(encoding="utf-8")
    assert '+password: ***\n+api_key = ***\n+{"token": ***}' in changes
    project = json.loads(artifact(trial, "provenance.json").read_text(encoding="utf-8"))["project"]
    assert project["remote"] == "https://***@github.com/x"
