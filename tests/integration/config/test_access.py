"""No key of a record opens a file that it may not: every one is tried, as the schema has it."""

import copy
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.analysis.preflight import check_inputs, check_settings
from pipeline.common.errors import TunewrightError
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import Experiment, validate
from pipeline.config.fields import keys_at, parts
from pipeline.config.flat import as_tree
from pipeline.config.untrusted import check_values
from tests.support.chats import chats, write_chats
from tests.support.rows import rows, write_rows
from tests.support.stores import forget

_CARD = "---\nconfigs: [{config_name: default, data_files: rows.jsonl}]\n---\n"


class Secret:
    """A folder outside the working folder, and whether anybody has read a file in it."""

    def __init__(self, folder: Path, model: Path) -> None:
        shutil.copytree(model, folder)
        write_rows(folder / "rows.jsonl", rows(120))
        (folder / "README.md").write_text(_CARD)
        (folder / "terms.yaml").write_text("secret: [[good, bad]]")
        self.folder = folder
        self.files = [path for path in folder.iterdir() if path.is_file()]
        self.names = [folder, folder / "rows.jsonl"]
        self.forget()

    def forget(self) -> None:
        for file in self.files:
            os.utime(file, (0, time.time()))

    @property
    def was_read(self) -> bool:
        return any(file.stat().st_atime != 0 for file in self.files)


@pytest.fixture
def secret(tmp_path_factory, tiny_model) -> Secret:
    made = Secret(tmp_path_factory.mktemp("outside") / "secret", tiny_model)
    made.names[1].read_bytes()
    if not made.was_read:
        pytest.skip("this file system does not note when a file is read")
    made.forget()
    return made


def text_keys(tree: Mapping, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the keys that the schema lets have a text, or values of a library's own keys."""
    for key, annotations in keys_at(Experiment, tree, place).items():
        here = (*place, key)
        if any(part is str for one in annotations for part in parts(one)):
            yield here
        if isinstance(at(tree, here), Mapping):
            yield from text_keys(tree, here)


def at(tree: Mapping, place: Sequence[str]) -> Any:
    return reduce(lambda node, key: node.get(key), place, tree)


def changed(tree: Mapping, place: Sequence[str], value: str) -> Mapping:
    copied = copy.deepcopy(tree)
    at(copied, place[:-1])[place[-1]] = value
    return copied


def carry_out(tree: Mapping) -> None:
    """Do with a record's config what a rerun does before anything is recorded."""
    forget()
    check_values(tree, [])
    experiment = validate(OmegaConf.create(tree))
    check_settings(experiment)
    check_inputs(experiment)


COMMANDS = {
    "files": "data=files data.train=folder/rows.jsonl evaluation.counterfactual=folder/terms.yaml",
    "hub": "data=hub data.name=folder data.validation=null data.test=null",
    "chat": "data=files data.train=chats.jsonl task=chat",
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_no_key_of_a_record_reads_a_file_outside(secret, tiny_model, chatter, kind):
    shutil.copytree(chatter if kind == "chat" else tiny_model, "model")
    shutil.copytree(secret.folder, "folder")
    secret.forget()
    write_chats(Path("chats.jsonl"), chats(60))
    common = ["model=hub", "model.checkpoint=model", "training.max_length=32", "data.text=review"]
    with hydra_app("test") as hydra:
        command = [*COMMANDS[kind].split(), *common, "data.label=stars"]
        tree = as_tree(without_hydra(compose(hydra, command)))
    carry_out(tree)  # which is valid
    for place in text_keys(tree):
        for name in secret.names:
            with suppress(TunewrightError):
                carry_out(changed(tree, place, str(name)))
            assert not secret.was_read, f"{'.'.join(place)}={name}"
