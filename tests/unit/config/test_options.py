"""The schema: wrong keys, types and bounds are refused by name; the YAML files are the menu."""

from dataclasses import MISSING, fields
from typing import get_args, get_type_hints

import pytest
from omegaconf import OmegaConf

from pipeline.config import schema
from pipeline.config.compose import as_run, folders

CONF = folders("conf")[-1]


@pytest.mark.parametrize(
    ("group", "dataclass"),
    [
        ("model", schema.ModelConfig),
        ("training", schema.TrainingConfig),
        ("evaluation", schema.EvaluationConfig),
        ("tracking", schema.TrackingConfig),
    ],
)
def test_every_option_of_a_group_lists_every_key(group, dataclass):
    for path in (CONF / group).glob("*.yaml"):
        assert set(OmegaConf.load(path)) == {f.name for f in fields(dataclass)}, path


OF_ANY_ROWS = {"train_share", "folds", "fold"}


def test_every_data_set_lists_every_key_of_its_source():
    by_source = {"files": schema.FilesConfig, "hub": schema.HubConfig}
    for path in (CONF / "data").glob("*.yaml"):
        given = OmegaConf.load(path)
        expected = fields(by_source[given.source])
        needed = {f.name for f in expected if f.default is MISSING} | OF_ANY_ROWS
        # Of a data set that is known, the columns of other tasks are left out.
        every = path.stem in by_source
        assert set(given) == {f.name for f in expected} if every else set(given) == needed, path


@pytest.mark.parametrize(("group", "union"), [("task", "TaskConfig"), ("adapter", "AdapterConfig")])
def test_every_option_of_a_kind_lists_every_key_of_its_kind(group, union):
    by_name = {
        name: kind
        for kind in get_args(getattr(schema, union))
        for name in get_args(get_type_hints(kind)["name"])
    }
    found = {path.stem: OmegaConf.load(path) for path in (CONF / group).glob("*.yaml")}
    assert found.keys() == by_name.keys()
    for name, given in found.items():
        assert set(given) == {f.name for f in fields(by_name[name])}, name


def test_a_command_is_given_again_with_what_the_machine_decided_then():
    decided = {"training.threads": 2, "training.precision": "bfloat16"}
    left_open = ["seed=1", "training.threads=null", "training.precision=auto"]
    settled = ["training.threads=2", "training.precision=bfloat16"]
    assert as_run(left_open, decided) == ["seed=1", *settled]
    assert as_run(["training.threads=1"], decided) == ["training.threads=1", settled[1]]
