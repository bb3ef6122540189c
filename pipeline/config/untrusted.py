"""Records are untrusted input: nothing in them may name code to run or files to open.

Private part of OmegaConf that is touched here, and nowhere else: ``_utils.get_yaml_loader``, which
reads a file of the config. Public is only ``OmegaConf.load``, which builds objects unchecked.
"""

import json
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from pipeline.common.errors import ConfigError, TrackingError
from pipeline.common.paths import expanded
from pipeline.common.text import CONTROL, printable
from pipeline.config.experiment import Experiment
from pipeline.config.fields import keys_at, parts
from pipeline.config.types import Access

MOST_BYTES = 2**20  # of a config
MOST_JSON_BYTES = 2**23
MOST_NODES = 10_000
MOST_DEPTH = 20
MOST_CHARACTERS = 2000  # of one value: the time to read a number grows with its length squared

CODE = ("model.trust_remote_code", "model.revision")  # keys: which code is run


def read_config(text: bytes, place: str) -> dict[str, Any]:
    """Read a logged config: YAML of plain values, as OmegaConf writes it once resolved.

    Args:
        text: the file's bytes.
        place: names the file in messages.

    Raises:
        ConfigError: if it is not such YAML, is too large, or could call code (``_target_``) or
            read the environment (``${oc.env:…}``).
    """
    from omegaconf._utils import get_yaml_loader

    try:
        content = _decoded(text, MOST_BYTES)
        _check_events(yaml.parse(content, get_yaml_loader()))
        tree = yaml.load(content, get_yaml_loader())
    # Besides its own errors, the loader lets through Python's for numbers and characters.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{place}: expected a logged config: {_reason(error)}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{place}: expected keys and values, found {type(tree).__name__}.")
    for key, problem in problems(tree):
        raise ConfigError(f"{place}: {printable(key)}: {problem}.")
    return tree


def check_values(
    tree: Mapping[str, Any],
    allowed: Sequence[Path],
    given: Collection[str] = (),
    place: str = "run config.yaml",
) -> None:
    """Refuse files outside the working folder, and code, that a logged config names.

    Which keys name files is read from the schema: those whose annotation has an `Access`. Values
    of a wrong type are left to `pipeline.config.experiment.validate`.

    Args:
        tree: a logged config, with the user's changes.
        allowed: folders, besides the working folder, whose files may be read.
        given: dotted keys that the user set, with all below them; not checked.
        place: names the config in messages.

    Raises:
        ConfigError: naming the key, what it would access and how to allow it.
    """
    roots = [os.path.realpath(folder) for folder in (Path.cwd(), *allowed)]
    for key, access, value in _accesses(tree):
        problem = None if _is_given(key, given) else _problem_of(value, access, roots)
        if problem is not None:
            remedy = "" if problem.endswith(".") else f" give {key}=… yourself."
            raise ConfigError(printable(f"{place}: {key}={value} {problem}{remedy}"))
    if _at(tree, "model.trust_remote_code") is None:
        return
    for key in CODE:
        value = _at(tree, key)
        if value is not None and not _is_given(key, given):
            raise ConfigError(
                f"{place}: {key}={printable(str(value))} says which code of a model is to run "
                f"here; if you trust that code, give {key}={_word(str(value))} yourself."
            )


def read_json(text: bytes, place: str) -> Any:
    """Read JSON that a tracking server sent.

    Raises:
        TrackingError: if it is not JSON, or more than 8 MiB of it.
    """
    try:
        return json.loads(_decoded(text, MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise TrackingError(f"{place}: expected JSON: {_reason(error)}.") from error


def _decoded(text: bytes, most: int) -> str:
    if len(text) > most:
        raise ValueError(f"found {len(text):,} bytes, at most {most:,} are read")
    return text.decode("utf-8")


def _reason(error: Exception) -> str:
    """Return an error's text in one line; it may quote the file."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text)[:300].rstrip(".")


def _check_events(events: Iterator[Any]) -> None:
    """Check the limits before anything is built."""
    nodes = depth = documents = 0
    for event in events:
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        value = getattr(event, "value", "")
        refused = {
            "an anchor or alias": getattr(event, "anchor", None) is not None,
            "a tag": getattr(event, "tag", None) is not None,
            "a merge of keys": value == "<<",
            f"more than {MOST_CHARACTERS:,} characters in a value": len(value) > MOST_CHARACTERS,
            f"more than {MOST_NODES:,} values": nodes > MOST_NODES,
            f"more than {MOST_DEPTH} levels": depth > MOST_DEPTH,
            "a second document": documents > 1,
        }
        for what, is_found in refused.items():
            if is_found:
                raise ValueError(f"found {what} in line {event.start_mark.line + 1}")


def problems(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys whose name or value a logged config cannot have, each with the reason."""
    if isinstance(node, dict):
        for name, value in node.items():
            below = f"{key}.{name}" if key else str(name)
            if not isinstance(name, str):
                yield below, f"a key is a text, found {type(name).__name__}"
            elif name.startswith("_"):
                yield below, "keys that begin with an underscore call code; expected a name"
            else:
                yield from problems(name, below)
                yield from problems(value, below)
    elif isinstance(node, list):
        for i, item in enumerate(node):
            yield from problems(item, f"{key}[{i}]")
    elif isinstance(node, str):
        if "${" in node:
            yield key, f"{node[:80]!r} is looked up elsewhere; expected the value itself"
        elif set(CONTROL.findall(node)) - {"\n", "\t"}:
            yield key, f"{node[:80]!a} holds control characters; expected text"


def _accesses(
    tree: Mapping[str, Any], place: tuple[str, ...] = ()
) -> Iterator[tuple[str, Access, str]]:
    """Yield the keys of a config that reach the file system, with how they do and their texts."""
    for key, annotations in keys_at(Experiment, tree, place).items():
        value, here = _at(tree, ".".join([*place, key])), (*place, key)
        if isinstance(value, Mapping) and keys_at(Experiment, tree, here):
            yield from _accesses(tree, here)
            continue
        found = dict.fromkeys(part for one in annotations for part in parts(one))
        for access in (part for part in found if isinstance(part, Access)):
            yield from ((".".join(here), access, text) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value: of a library's own keys, those at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _problem_of(value: str, access: Access, roots: Sequence[str]) -> str | None:
    """Return what is wrong with a path or name, or None; without a period: without the remedy."""
    if access is Access.IN_PACKAGE:
        leads = "leads out of the distribution; expected a path inside it."
        return leads if _leaves(value) else None
    if access is Access.SERVICE:
        return "says where rows and a key go, and who is paid. If you trust this record,"
    if "://" in value:
        return "is an address; expected a path or a name. If you trust this record,"
    if access is Access.SPLIT:
        is_name = "/" not in value and ".." not in value
        return None if is_name else "is not the name of a split. If you trust this record,"
    where = "lies"
    try:
        path = _outside([os.path.expanduser(value)], roots)
        if path is None and access is Access.FILES:  # of which some may be links
            path = _outside(expanded(value), roots)
        if path is None and access is Access.FOLDER:
            for link in _links(value):
                where, path = f"has a link, {link}, that leads", _outside([link], roots)
                if path is not None:
                    break
    except ValueError:  # a zero byte
        return "is not a path;"
    if path is None:
        return None
    folder = _word(str(path if path.is_dir() else path.parent))
    advice = f"if you trust this record, add --allow {folder}, or"
    return f"{where} outside the working folder; {advice}"


def _outside(paths: Iterable[str | Path], roots: Sequence[str]) -> Path | None:
    """Return the first path that lies outside these folders, links followed."""
    real = (Path(os.path.realpath(path)) for path in paths)
    return next((p for p in real if not any(p.is_relative_to(root) for root in roots)), None)


def _links(folder: str) -> Iterator[str]:
    """Yield the links below a folder, and below the folders that they lead to."""
    waiting, seen = [os.path.expanduser(folder)], set[str]()
    while waiting:
        real = os.path.realpath(waiting.pop())
        if real in seen or not os.path.isdir(real):
            continue
        seen.add(real)
        with suppress(PermissionError), os.scandir(real) as entries:  # nobody can read it
            for entry in entries:
                if entry.is_symlink():
                    yield entry.path
                if entry.is_dir():
                    waiting.append(entry.path)


def _leaves(path: str) -> bool:
    """Whether a path inside a distribution, on any system, leads out of it."""
    kinds = PurePosixPath(path), PureWindowsPath(path)
    return any(kind.anchor or ".." in kind.parts for kind in kinds)


def _is_given(key: str, given: Collection[str]) -> bool:
    return any(f"{key}.".startswith(f"{one}.") for one in given)


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _word(text: str) -> str:
    """Return a text quoted as one word of a command line."""
    return printable(shlex.quote(text))
