"""A disk that is full or read-only ends a search with a paragraph; the same command resumes it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import Started
from tests.support.studies import trials_in
from tests.support.waiting import DEADLINE, wait_until

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
    full = Started("train", *sweep, "hydra.sweeper.study_name=mine")
    said, _ = full.communicate(timeout=DEADLINE)
    assert full.returncode == 2, said
    assert "Traceback" not in said
    assert "Free some space, then give the same command again: it resumes." in said

    grow = ["mount", "-o", "remount,size=500m", str(disk)]
    subprocess.run(grow, check=True)
    again = cli("train", *sweep, "hydra.sweeper.study_name=mine")
    assert again.code == 0, again.err
    assert "8 of 8 trials done, 0 failed" in again.out
    well = cli("doctor", f"tracking.dir={disk}/mlruns")
    assert well.code == 0, well.out


@pytest.fixture
def file_system(tmp_path) -> Iterator[Callable[[str], None]]:
    """An ext4 file system in `disk`: what mounts it with options, and has it fail in mid-run."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    image.touch()
    os.truncate(image, 100 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)

    def mount(options: str) -> None:
        subprocess.run(["mount", "-o", options, image, folder], check=True)

    try:
        mount("loop")
    except subprocess.CalledProcessError:
        pytest.skip("needs a loop device")
    yield mount
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_search_resumes_when_a_disk_is_writable_again(cli, tiny, tmp_path, file_system):
    disk = tmp_path / "disk"
    sweep = (
        "-m",
        *tiny,
        f"tracking.dir={disk}/mlruns",
        "seed=range(1,9)",
        "hydra.sweeper.n_jobs=1",
    )
    command = ("train", *sweep, "hydra.sweeper.study_name=mine")
    search = Started(*command)
    study = disk / "mlruns" / "studies" / "mine"
    wait_until(lambda: [t for t in trials_in(study) if t.state.is_finished()], search)
    file_system("remount,abort")  # as the kernel does where a disk fails
    said, _ = search.communicate(timeout=DEADLINE)
    assert search.returncode == 2, said
    assert "Traceback" not in said
    assert "then give the same command again: it resumes." in said
    looking = Started("runs", f"tracking.dir={disk}/mlruns")  # which writes nothing
    seen, _ = looking.communicate(timeout=DEADLINE)
    assert looking.returncode == 0, seen

    subprocess.run(["umount", "--lazy", disk], check=True)
    file_system("loop")
    again = Started(*command)
    said, _ = again.communicate(timeout=DEADLINE)
    assert again.returncode == 0, said
    assert "8 of 8 trials done, 0 failed" in said
    well = cli("doctor", f"tracking.dir={disk}/mlruns")
    assert well.code == 0, well.out
