"""A disk that is full ends a search with a paragraph; the same command resumes it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system, as root"
)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1000k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_resumes_when_a_full_disk_has_room(cli, tiny, disk, n_jobs):
    sweep = (
        "-m",
        *tiny,
        f"tracking.dir={disk}/mlruns",
        "seed=range(1,9)",
        f"hydra.sweeper.{n_jobs=}",
    )
    command = [sys.executable, "-m", "pipeline", "train", *sweep, "hydra.sweeper.study_name=mine"]
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    assert "Free some space, then give the same command again: it resumes." in full.stderr

    grow = ["mount", "-o", "remount,size=500m", str(disk)]
    subprocess.run(grow, check=True)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "8 of 8 trials done, 0 failed" in again.stdout
    well = cli("doctor", f"tracking.dir={disk}/mlruns")
    assert well.code == 0, well.out
