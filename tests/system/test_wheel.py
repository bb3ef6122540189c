"""The wheel carries conf/ and sweeps/ and works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pipeline

ROOT = Path(pipeline.__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the source tree")
def test_the_wheel_works_from_any_folder(working_folder):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = Path("dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall("site")
    environment = {**os.environ, "PYTHONPATH": str(working_folder / "site")}

    def tunewright(*argv: str) -> subprocess.CompletedProcess[str]:
        # -S -E would lose the libraries; a folder on PYTHONPATH comes before the source tree.
        command = [sys.executable, "-m", "pipeline", *argv]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="site")

    code = "import tunewright as t; print(t.compose(['optimizer=sgd']).settings.optimizer.name)"
    called = [sys.executable, "-c", code]
    done = subprocess.run(called, env=environment, capture_output=True, text=True, cwd="site")
    assert done.stdout == "SGD\n", done.stderr
    shown = tunewright("train", "--cfg", "job", "optimizer=sgd")
    assert "name: SGD" in shown.stdout, shown.stderr
    refused = tunewright("sweep", "lr-batch-gird")
    assert "Did you mean lr-batch-grid?" in refused.stderr
    sampler = tunewright("train", "-m", "seed=1,2", "hydra/sweeper/sampler=tpee")
    assert "Did you mean tpe?" in sampler.stderr
