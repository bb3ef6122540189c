"""A worker process: forked warm, and as one that was started anew."""

import errno
import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from pipeline.common.errors import DiskError
from pipeline.common.session import shared
from pipeline.jobs.warm_up import warm_up
from pipeline.search.workers import fork_server, sizing
from pipeline.search.workers.child import Child, in_child


def look_around() -> dict[str, Any]:
    """Return what a worker finds; what is imported here, it had."""
    imported = "pipeline.training.trainer" in sys.modules
    import torch

    return {
        "imported": imported,
        "threads": torch.get_num_threads(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "parent": os.getppid(),
        "drawn": torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).sum().item(),
    }


@shared(maxsize=1, travel=True)
def read(place: str) -> tuple[str, int]:
    return place, os.getpid()


def die_by_oom() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_at(number: int) -> None:
    try:
        raise OSError(number, os.strerror(number))
    except OSError as error:
        raise ValueError("nothing was written") from error


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_a_forked_child_has_what_its_parent_has_read():
    warm_up()
    assert read("rows.csv") == in_child(read, "rows.csv")
    assert in_child(read, "others.csv")[1] != os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_forked_worker_equals_a_fresh_one(monkeypatch):
    monkeypatch.setattr(fork_server.fork_server(), "is_wanted", False)
    environment = dict.fromkeys(sizing.THREAD_VARIABLES, str(sizing.cores()))
    anew = Child(look_around, (), environment)
    warm_up()
    monkeypatch.setenv("LATER", "than the server")
    forked, killed = Child(look_around, (), environment), Child(die_by_oom, (), {})
    failed = Child(os._exit, (3,), {})
    ended = [child.join() for child in (anew, forked, killed, failed)]
    assert ended == [True, True, False, False]
    assert failed.fate == "ended with exit code 3; what it printed says why"
    assert killed.fate == "was killed; memory may be short (see the system's log)"
    assert forked.result["imported"]
    assert not anew.result["imported"]
    shared = anew.result["environment"].items() & os.environ.items()  # not what C code has set
    assert shared <= forked.result["environment"].items()
    assert forked.result["environment"]["LATER"] == "than the server"
    assert fork_server.SERVER_ENVIRONMENT.keys().isdisjoint(
        forked.result["environment"].keys() - anew.result["environment"].keys()
    )
    assert forked.result["parent"] != os.getpid()
    for name in ("threads", "folder", "blocked", "drawn"):
        assert forked.result[name] == anew.result[name], name
    server = psutil.Process(forked.result["parent"])
    assert server.num_threads() == 1
    with pytest.raises(DiskError, match="a disk is full"):
        in_child(fail_at, errno.ENOSPC)
    with pytest.raises(ValueError, match="nothing was written") as failure:
        in_child(fail_at, errno.EPERM)
    (where,) = failure.value.__notes__
    assert "in fail_at" in where
    assert "PermissionError" in where


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_search_imports_torch_in_children_only(tiny):
    search = ["train", "-m", *tiny]
    one = ["hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=auto"]
    code = (
        "import sys; from pipeline.cli import main\n"
        f"assert main({[*search, 'training.max_length=16,64', 'hydra.sweeper.n_jobs=2']}) == 2\n"
        "assert 'mlflow' in sys.modules\n"  # while the server imported
        f"assert main({[*search, 'hydra.sweeper.n_jobs=2', 'seed=1,2']}) == 0\n"
        f"assert main({[*search, 'seed=1,2,3', *one]}) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "training.max_length=64: " in ended.stderr
    assert "Traceback" not in ended.stderr
