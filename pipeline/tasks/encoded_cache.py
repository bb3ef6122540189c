"""Encoded splits on disk: a text is tokenised once, for all processes and later commands."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.common.disk_cache import Entries
from pipeline.data.package_files import sha256
from pipeline.tasks.base import Examples, Task

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

    from pipeline.data import Rows

log = logging.getLogger(__name__)

FACTS, DATASET = "examples.json", "dataset"  # of an entry
MOST_ENTRIES = 64
MOST_BYTES = 5 * 2**30

# Packages whose versions affect how a text is encoded or stored.
_PACKAGES = ("datasets", "jinja2", "sentencepiece", "tokenizers", "transformers")
# In a chat template: what a key cannot capture, such as the time; it may match too much.
_UNFORESEEN = re.compile(r"random|lipsum|%-?[HIMSpfcXsTRrzZ]")


@dataclass(frozen=True)
class EncodedStore:
    """A folder with one entry per split and encoding, by `encoding_key`.

    Entries are in the format of datasets and are memory-mapped.
    """

    folder: Path

    def get(
        self, key: str, rows: Rows, make: Callable[[], Examples], *, keep: bool = True
    ) -> Examples:
        """Return the examples of rows: from disk, or else encoded now.

        Args:
            key: everything that they depend on.
            rows: to encode.
            make: encodes the rows; of several processes that need them at once, one encodes.
            keep: whether new examples are written; without it the folder does not change.
        """
        entry = self.folder / key
        if not keep:
            return _read(entry, rows) or make()
        entries = Entries(self.folder, MOST_BYTES, MOST_ENTRIES)
        with ExitStack() as lock:
            try:
                lock.enter_context(entries.alone(key))
            except (OSError, NotImplementedError) as error:
                log.warning("%s: cannot cache encoded data: %s", self.folder, error)
                return _read(entry, rows) or make()
            found = _read(entry, rows)
            if found is not None:
                entries.touch(key)
                return found
            with suppress(OSError):
                entries.remove(key)  # one that could not be read
            made = make()
            if not len(made.dataset):  # columns without values have no type
                return made
            try:
                with entries.put(key) as path:
                    _write(path, made)
            except Exception as error:  # of pyarrow and the disk
                log.warning("%s: cannot cache encoded data: %s", entry, error)
            entries.tidy(kept=[key])
            return _read(entry, rows) or made


def encoding_key(task: Task[Any], rows: Rows, *, training: bool) -> str | None:
    """Return a digest of all that a task's examples of rows depend on; None: it is unknown.

    It rather includes too much: tokenising a text again costs little.
    """
    checkpoint = task.checkpoint
    rules = _rules(checkpoint.tokenizer)
    if rules is None:
        return None
    settings = asdict(task.config)
    read = {name: value for name, value in settings.items() if name not in task.after_encoding}
    parts = {
        "code": _code(),
        "rows": [len(rows), list(rows.columns), rows.digest],
        "tokenizer": rules,
        "model": checkpoint.config.to_dict(),
        "task": [type(task).__qualname__, read],
        "targets": [task.labels, task.targets.moments],
        "max_length": task.max_length,
        "training": training,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


@cache
def _code() -> str:
    """Digest the code that encodes: entries of another version are not used."""
    root = Path(__file__).parents[1]
    folders = (root / "data", root / "models", root / "tasks")
    digest = hashlib.sha256(sys.version.encode())  # Python's tables of characters are in it
    for path in (p for folder in folders for p in sorted(folder.rglob("*.py"))):
        digest.update(f"{path.relative_to(root).as_posix()} {sha256(path)}\n".encode())
    digest.update(" ".join(f"{name}={version(name)}" for name in _PACKAGES).encode())
    return digest.hexdigest()


def _rules(tokenizer: PreTrainedTokenizerBase) -> list[Any] | None:
    """Return everything that affects how a tokenizer reads texts and conversations, or None."""
    from transformers import PreTrainedTokenizer

    from pipeline.models.digests import tokenizer_digest

    kind, template = type(tokenizer), json.dumps(tokenizer.chat_template)
    has_day = "strftime_now" in template
    if not kind.__module__.startswith("transformers.") or (
        _UNFORESEEN.search(template) if has_day else re.search("random|lipsum", template)
    ):
        return None  # custom code can do anything
    files: list[str] = []
    if not tokenizer.is_fast:
        if not isinstance(tokenizer, PreTrainedTokenizer):
            return None
        given = (
            getattr(tokenizer, name, None) or tokenizer.init_kwargs.get(name)
            for name in tokenizer.vocab_files_names
        )
        paths = [Path(path) for path in given if path]
        if not all(path.is_file() for path in paths):
            return None
        files = [sha256(path) for path in paths]
    day = date.today().isoformat() if has_day else ""
    return [kind.__qualname__, tokenizer_digest(tokenizer), tokenizer.init_kwargs, files, day]


class Arrays(Sequence["np.ndarray[Any, Any]"]):
    """A column of lists of lists as memory-mapped arrays of two axes."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    @override
    def __len__(self) -> int:
        return len(self._column)

    @override
    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        lists = self._column[i].values
        values = lists.flatten().to_numpy()
        return values.reshape(len(lists), len(values) // len(lists))


def _files(entry: Path) -> dict[str, str]:
    """Return the digests of a data set's files: a changed token would give wrong results."""
    return {path.name: sha256(path) for path in sorted((entry / DATASET).iterdir())}


def _write(path: Path, examples: Examples) -> None:
    """Write examples into a folder, with the further arrays of subclasses."""
    from datasets import Dataset, concatenate_datasets

    more = {f.name: getattr(examples, f.name) for f in fields(examples)[len(fields(Examples)) :]}
    whole = [examples.dataset, *([Dataset.from_dict(more)] if more else [])]
    concatenate_datasets(whole, axis=1).save_to_disk(path / DATASET)
    facts = {
        "kind": type(examples).__name__,
        "truncated": examples.truncated,
        "dropped": examples.dropped,
        "notes": examples.notes,
        "more": list(more),
        "files": _files(path),
    }
    (path / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _read(entry: Path, rows: Rows) -> Examples | None:
    """Return an entry's examples, or None if it is missing or cannot be read."""
    from datasets import Dataset

    if not entry.is_dir():
        return None
    try:
        facts = json.loads((entry / FACTS).read_text(encoding="utf-8"))
        if _files(entry) != facts["files"]:
            raise ValueError("its files differ from those that were written")
        whole = Dataset.load_from_disk(entry / DATASET, keep_in_memory=False)
        more = {name: Arrays(whole.data.column(name)) for name in facts["more"]}
        return _kinds(Examples)[facts["kind"]](
            rows=rows,
            dataset=whole.remove_columns(list(more)),
            truncated=facts["truncated"],
            dropped=facts["dropped"],
            notes=tuple(facts["notes"]),
            **more,
        )
    except Exception as error:  # of json, pyarrow, datasets and the disk
        log.warning("%s: cannot read encoded data; encoding again: %s", entry, error)
        return None


def _kinds(kind: type[Examples]) -> dict[str, type[Examples]]:
    """Return a class and its subclasses by name: a task's module decides which one it uses."""
    found = {kind.__name__: kind}
    for one in kind.__subclasses__():
        found |= _kinds(one)
    return found
