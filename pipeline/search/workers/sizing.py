"""How many workers this machine is good for: by its cores, memory and GPUs, and what one needs."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.common.errors import amount
from pipeline.config.compose import chosen

AUTO = "auto"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
COPIES = 5  # of the weights, in float32: they, a gradient, two moments of Adam, the best ones
OVERHEAD = 2**30  # bytes of a worker besides them: libraries, data, a batch's activations
PLAIN = 200 * 2**20  # bytes of a worker whose function does not say what it needs
SMALL = 100_000_000  # parameters; a larger model has a GPU for itself
MOST_ON_A_GPU = 4
MOST_LEARNING = 8  # workers: a sampler that learns has not seen what all others run at the moment

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What there is to share out."""

    cores: int
    memory: int  # bytes that nobody uses
    gpus: int = 0
    gpu_memory: int | None = None  # bytes of the smallest; None: not known


@dataclass(frozen=True)
class WorkerPlan:
    """How many workers a search has, and why."""

    workers: int
    why: str = ""

    @property
    def cores_each(self) -> int:
        """The cores that a worker has."""
        return max(1, cores() // self.workers)

    @property
    def gpus_each(self) -> float:
        """The GPUs that a worker has, or its share of one."""
        return len(visible_gpus()) / self.workers

    def __str__(self) -> str:
        """Return both, as the plan says them; nothing of a single worker that was asked for."""
        if self.why:
            return f", {amount(self.workers, 'worker')} ({AUTO}: {self.why})"
        return f", {self.workers} workers" if self.workers > 1 else ""


def need(parameters: int) -> int:
    """Return the bytes that a worker needs which trains a model of so many parameters."""
    return parameters * 4 * COPIES + OVERHEAD


def choose(
    machine: Machine,
    footprint: int,
    trials: int,
    *,
    learns: bool = False,
    threads: int | None = None,
    per_gpu: int | None = None,
) -> WorkerPlan:
    """Choose workers and, by that, threads: small models are best with one thread a worker.

    Args:
        machine: where they run.
        footprint: bytes that one needs; 0: not known.
        trials: that are left to run.
        learns: whether the sampler learns from the trials before.
        threads: that each is given; None: the cores shared out.
        per_gpu: how many share a GPU; None: as many as fit, of a small model.
    """
    bounds = {
        amount(machine.cores, "core"): machine.cores // (threads or 1),
        "memory for {}": machine.memory // (footprint or PLAIN),
        "{} to run": trials,
    }
    if machine.gpus:
        each = per_gpu or _fitting(machine.gpu_memory, footprint)
        shared = f", {each} on each" if each > 1 else ""
        bounds = {amount(machine.gpus, "GPU") + shared: machine.gpus * each, **bounds}
    if learns:
        bounds["{} at most, as its sampler learns"] = MOST_LEARNING
    bound, fewest = min(bounds.items(), key=lambda item: item[1])  # of equal ones the first
    workers = max(1, fewest)
    each_has = threads or max(1, machine.cores // workers)
    said = dict.fromkeys((next(iter(bounds)), bound.format(fewest)))
    return WorkerPlan(workers, ", ".join((*said, f"{amount(each_has, 'thread')} each")))


def may_be_started(overrides: Sequence[str]) -> bool:
    """Return whether a search's command line has worker processes started on this machine."""
    given = chosen(overrides)
    if given.get("hydra.sweeper.dry_run") == "true":
        return False
    if given.get("hydra/launcher", "processes") != "processes":
        return False
    if given.get("hydra.sweeper.isolation") == "trial":
        return True
    jobs = given.get("hydra.sweeper.n_jobs", AUTO)
    return jobs != "1" and (jobs != AUTO or cores() > 1)


def this_machine() -> Machine:
    """Look at this machine, as far as this process may use it."""
    gpus = visible_gpus()
    return Machine(cores(), _free_memory(), len(gpus), _gpu_memory(gpus))


def cores() -> int:
    """Return how many cores this process may use; threads of one core compute no faster than one.

    A container's share of the processors counts as so many cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return psutil.cpu_count(logical=False) or 1
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"  # of the same core
    cpus = os.sched_getaffinity(0)
    count = len({_read(Path(siblings.format(cpu))) or str(cpu) for cpu in cpus})
    for folder in _groups("cpu"):
        share = _quota(folder)
        if share is not None:
            count = min(count, int(share))
    return max(1, count)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA names them; none without a driver."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    return [row[0] for row in _asked_of_driver("index")]


def _fitting(gpu_memory: int | None, footprint: int) -> int:
    """Return how many workers share a GPU."""
    if gpu_memory is None or not 0 < footprint < need(SMALL):
        return 1
    return max(1, min(MOST_ON_A_GPU, gpu_memory // footprint))


def _gpu_memory(gpus: list[str]) -> int | None:
    """Return the bytes of the smallest of these GPUs; None where one of them is not known."""
    if not gpus:
        return None
    known = {}
    for row in _asked_of_driver("index,uuid,memory.total"):
        if len(row) == 3 and row[2].isdecimal():
            known[row[0]] = known[row[1]] = int(row[2]) * 2**20
    return min(known[name] for name in gpus) if known.keys() >= set(gpus) else None


def _asked_of_driver(fields: str) -> list[list[str]]:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [[word.strip() for word in line.split(",")] for line in listed.splitlines() if line]


def _free_memory() -> int:
    """Return the bytes that nobody uses, on the machine or in this process's cgroups."""
    free = psutil.virtual_memory().available
    for folder in _groups("memory"):
        for limit, usage, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, used = _read(folder / limit), _read(folder / usage)
            if most.isdecimal() and used.isdecimal():
                lines = _read(folder / "memory.stat").splitlines()
                counted = dict(line.split(maxsplit=1) for line in lines)
                free = min(free, int(most) - int(used) + int(counted.get(cached, 0)))
    return max(0, free)


def _quota(folder: Path) -> float | None:
    """Return how many processors' time a cgroup has; None: no limit."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if not (quota.isdecimal() and period.isdecimal()):  # max, or -1
        return None
    return int(quota) / max(1, int(period))


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroups, from its own up: of version 2 and of 1."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, names, path = line.split(":", 2)
        if not names or controller in names.split(","):
            root = _CGROUPS / names if names else _CGROUPS
            own = root / path.lstrip("/")
            yield from (f for f in (own, *own.parents) if f.is_relative_to(root))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
