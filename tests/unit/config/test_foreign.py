"""Names of other tools are answered with ours, which exist; the docs' table is the same."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config.foreign import FOREIGN, other_name

ROOT = Path(__file__).resolve().parents[3]


def options():
    return {(f.parent.name, f.stem): f for f in (ROOT / "conf").glob("[a-z]*/*.yaml")}


def keys():
    found = {"seed"}
    for (group, _), file in options().items():
        found |= {f"{group}.{key}" for key in yaml.safe_load(file.read_text(encoding="utf-8"))}
    return found


@pytest.mark.parametrize("name", FOREIGN)
def test_every_answer_names_keys_and_options_that_exist(name):
    said = FOREIGN[name]
    dotted = re.findall(r"\b(?:[a-z]+\.[a-z_0-9]+)\b", said)
    assert set(dotted) <= keys()
    chosen = re.findall(r"(?<![.\w])([a-z]+)=([a-z-]+)\b", said)
    assert {pair for pair in chosen if pair[0] != "tunewright"} <= set(options())
    assert dotted or chosen or "option" in said or "not needed" in said


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("optimizer.lr", "optimizer.lr is not a key of the config. Here it is"),
        ("early_stopping_patience", "Here it is training.early_stopping_patience."),
        ("training.packing", "training.packing is now called training.unpadding."),
    ],
)
def test_a_key_of_another_tool_or_version_is_answered_with_ours(key, said):
    assert said in other_name(key)


def test_our_own_keys_are_not_foreign():
    assert [key for key in keys() if other_name(key)] == []


def test_the_table_in_the_docs_has_every_name():
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", page.partition("## Names of other")[2], re.M)
    shown = {
        name: said.replace("`", "")
        for names, said in rows
        for name in names.strip("`").split("`, `")
    }
    assert shown == FOREIGN
