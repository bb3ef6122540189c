"""A run's record as a folder: everything needed to run it again without a tracking server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.common.atomic import scratch
from pipeline.common.errors import TrackingError
from pipeline.common.private import make_folder, protect
from pipeline.common.secrets import masked
from pipeline.common.text import printable
from pipeline.tracking.logged import LoggedRun, read, write_folder
from pipeline.tracking.record import CONFIG_FILE
from pipeline.tracking.store import Store

# Of a requirement that pip reads as nothing else: no option, path, address or variable.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!]{0,98}")
_OWN = "tunewright"

# Nothing of the record is in it: a script is run.
_SCRIPT = """\
#!/bin/sh
cd "$(dirname "$0")" && tunewright rerun . --verify "$@"
"""

_README = """\
# A run of tunewright

{about}

- `config.yaml`: the whole experiment. `requirements.txt`: the packages that it ran with.
- `provenance.json`, `inputs.json`, `code.diff`: code, machine, and digests of data and model.
- `results.json`: every metric, step by step, and digests of the predictions.
- `signature.json`: by it the account that made the run knows its own record.

The data and the model's files are not included. Give the new path of a file that has moved on the
command line.

```sh
pip install -r requirements.txt        # and tunewright itself, in the version of its first lines
./rerun.sh                             # run it again, and compare the result with results.json
./rerun.sh data.train=/path/to/train.csv
./rerun.sh --dry-run                   # only list the drift
```

It runs in this folder: paths in `config.yaml` and on the command line are relative to it.
"""


def export(store: Store, source: str, folder: Path) -> list[str]:
    """Write a run's record into a folder; return the names of its files.

    Args:
        store: where the run is.
        source: its id, or a folder that was exported.
        folder: one that is not there yet, or empty. A new one is there with all the files or not at
            all; into an empty one they are moved, ``config.yaml`` last, without which it is no run.

    Raises:
        TrackingError: where there is no such run, or the folder is not empty or cannot be written.
        ConfigError: where the run's config is not as a run logs it.
    """
    logged = read(store, source)
    logged.tree()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise TrackingError(
                f"{folder}: already exists and is not an empty folder; expected a new one."
            )
        return _write(logged, folder)
    except OSError as error:
        raise TrackingError(
            f"{folder}: cannot be written ({error.strerror}); expected a folder for the record."
        ) from error


def _write(logged: LoggedRun, folder: Path) -> list[str]:
    is_there = folder.is_dir()
    if not is_there:
        make_folder(folder.parent)
    with scratch(folder / "run" if is_there else folder) as made:
        made.mkdir()
        write_folder(logged, made)
        for file, text in (
            ("requirements.txt", "".join(f"{line}\n" for line in _requirements(logged.provenance))),
            ("README.md", _README.format(about="\n".join(f"    {s}" for s in _about(logged)))),
            ("rerun.sh", _SCRIPT),
        ):
            (made / file).write_text(text, encoding="utf-8")
        script = made / "rerun.sh"
        mode = script.stat().st_mode
        script.chmod(mode | (mode & 0o444) >> 2)  # who may read it may run it
        names = sorted(file.name for file in made.iterdir())
        if is_there:  # it may be a mount, or where the user is: it stays the same folder
            for name in sorted(names, key=lambda name: name == CONFIG_FILE):
                protect(made / name, folder / name)
                (made / name).rename(folder / name)
        else:
            protect(made, folder)
            made.rename(folder)
    return names


def _requirements(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a requirements file; entries that pip cannot read are left out."""
    own, project = _below(provenance, _OWN), _below(provenance, "project")
    for name, value in (
        ("tunewright", own.get("version")),
        ("its source's digest", own.get("source")),
        ("commit of the project", project.get("commit")),
        ("remote of the project", project.get("remote")),
        ("Python", provenance.get("python")),
    ):
        yield f"# {name}: {'not recorded' if value is None else printable(masked(str(value)))}"
    packages = {k: v for k, v in _below(provenance, "packages").items() if k.lower() != _OWN}
    fit = {k: v for k, v in packages.items() if _NAME.fullmatch(k) and _VERSION.fullmatch(str(v))}
    if len(fit) < len(packages):
        yield f"# left out: {len(packages) - len(fit)} whose name or version pip cannot read"
    for name, version in fit.items():
        yield f"{name}=={version}"


def _about(logged: LoggedRun) -> Iterator[str]:
    """Yield lines that describe the run; they are shown as they are, not as Markdown."""
    yield printable(f"run    {logged.run_id} ({logged.name}), {logged.state}")
    data = _below(logged.inputs, "data")
    splits = _below(data, "splits")
    yield printable(f"data   {data.get('name', 'not recorded')}")
    for name in splits:
        split = _below(splits, name)
        yield printable(f"       {name}: {split.get('rows')} rows, digest {split.get('digest')}")
    yield printable(f"model  {_below(logged.inputs, 'model').get('name', 'not recorded')}")


def _below(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping at a key, or an empty one."""
    found = tree.get(key)
    return found if isinstance(found, Mapping) else {}
