"""Provenance of a run besides its config: code, packages, machine. Read once a process.

It is read when the process opens its first record, not when it starts: what changes in between is
recorded as changed. Python code is imported once, so a worker of a long search keeps what was read.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.common.machine import cpu
from pipeline.common.secrets import masked, masked_message
from pipeline.common.session import shared

DIFF_BYTES = 1 << 20  # of a diff that are kept; its digest is of the whole
_COMMAND_SECONDS = 20.0
_VECTOR_UNITS = ("avx", "amx", "sse4", "fma", "f16c", "neon", "asimd", "sve", "bf16", "i8mm")


@shared(maxsize=1)
def environment() -> dict[str, Any]:
    """Return code, packages, Python and machine as plain values; None is what is not there.

    The first call takes some tenths of a second: the metadata of every installed package, this
    package's files and four commands of git. It imports torch, and where there is a GPU it starts
    CUDA and runs nvidia-smi. A command that hangs is given up after 20 seconds. Later calls cost
    nothing.
    """
    return {
        "tunewright": {"version": __version__, "source": source_digest()},
        "project": project(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": _packages(),
        "machine": _machine(),
    }


@shared(maxsize=1)
def source_digest() -> str:
    """Return a digest of this package's own code."""
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_diff() -> str:
    """Return what is changed in the project since its commit, without secrets; at most 1 MiB."""
    return _shown(_changes(Path.cwd())[:DIFF_BYTES])


@shared(maxsize=1)  # every trial records it, and masking 1 MiB takes half a second
def _shown(diff: bytes) -> str:
    return masked_message(diff.decode("utf-8", "replace"))


def project() -> dict[str, Any] | None:
    """Describe the git repository that the working folder is in; None where it is in none."""
    folder = Path.cwd()
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _changes(folder)
    remote = _git(folder, "config", "--get", "remote.origin.url") or b""
    others = _git(folder, "ls-files", "--others", "--exclude-standard", "*.py", "*.yaml") or b""
    return {
        "commit": commit.decode().strip(),
        "remote": masked(remote.decode("utf-8", "replace").strip()) or None,
        "changes": hashlib.blake2b(diff, digest_size=8).hexdigest() if diff else None,
        "untracked": others.decode("utf-8", "replace").split("\n")[:-1][:100],
    }


@shared(maxsize=1)
def _changes(folder: Path) -> bytes:
    options = "--no-color", "--no-ext-diff", "--no-textconv"
    return (_git(folder, "diff", "HEAD", *options) or b"").strip()


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return git's output, or None without git, repository or commit."""
    return _output("git", "-C", str(folder), *arguments)


def _output(*command: str) -> bytes | None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_COMMAND_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


@cache  # of the process, whatever it runs
def _packages() -> dict[str, str]:
    """Return every installed distribution with its version, as ``pip freeze`` lists them."""
    read = (d.metadata for d in distributions())  # parsed anew each time that it is asked for
    found = {metadata["Name"]: metadata["Version"] for metadata in read if metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _machine() -> dict[str, Any]:
    import torch

    cudnn: Any = torch.backends.cudnn
    name, flags = cpu()
    return {
        "platform": platform.platform(),
        "architecture": platform.machine(),
        "cpu": name,
        "cpu_features": sorted({f for f in flags if f.startswith(_VECTOR_UNITS)}),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": cudnn.version() if torch.cuda.is_available() else None,
        "driver": _driver() if torch.cuda.is_available() else None,
    }


def _driver() -> str | None:
    said = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or b""
    return said.decode().partition("\n")[0].strip() or None
