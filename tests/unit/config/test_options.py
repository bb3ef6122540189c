"""The schema and its YAML files have the same keys, and defaults stand in the files alone."""

from dataclasses import MISSING, fields
from typing import get_args, get_type_hints

import pytest
from omegaconf import OmegaConf

from pipeline.config.adapter import AdapterConfig
from pipeline.config.compose import as_run, chosen, folders, left_open
from pipeline.config.data import FilesConfig, HubConfig
from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.experiment import Experiment
from pipeline.config.model import ModelConfig
from pipeline.config.task import config_class, task_names
from pipeline.config.tracking import TrackingConfig
from pipeline.config.training import TrainingConfig
from pipeline.tasks.parts.writing import GenerationConfig

CONF = folders("conf")[-1]


@pytest.mark.parametrize(
    ("group", "dataclass"),
    [
        ("training", TrainingConfig),
        ("evaluation", EvaluationConfig),
        ("tracking", TrackingConfig),
    ],
)
def test_every_option_of_a_group_lists_every_key(group, dataclass):
    found = {path.stem: set(OmegaConf.load(path)) for path in (CONF / group).glob("*.yaml")}
    assert found
    every = {f.name for f in fields(dataclass)}
    assert {name for name, keys in found.items() if keys != every} == set()


def test_defaults_are_in_conf_alone():
    groups = (ModelConfig, FilesConfig, HubConfig, TrainingConfig, EvaluationConfig, Experiment)
    tasks = [config_class(name) for name in task_names()]
    for group in (*groups, *tasks, *get_args(AdapterConfig), GenerationConfig):
        given = [f.name for f in fields(group) if f.default is not MISSING]
        assert given == [], group


def test_every_task_and_adapter_has_a_file_that_lists_every_key():
    adapters = {
        name: kind
        for kind in get_args(AdapterConfig)
        for name in get_args(get_type_hints(kind)["name"])
    }
    tasks = {name: config_class(name) for name in task_names()}
    for group, by_name in (("task", tasks), ("adapter", adapters)):
        found = {path.stem: OmegaConf.load(path) for path in (CONF / group).glob("*.yaml")}
        assert found.keys() == by_name.keys()
        for name, given in found.items():
            own = given.get(group, given)  # a task's file may have its columns as well
            assert set(own) == {f.name for f in fields(by_name[name])}, name


def test_command_of_a_run_repeats_decisions_of_the_machine():
    decided = {"training.threads": 2, "training.precision": "bfloat16"}
    left_open = ["seed=1", "training.threads=null", "training.precision=auto"]
    settled = ["training.threads=2", "training.precision=bfloat16"]
    assert as_run(left_open, decided) == ["seed=1", *settled]
    assert as_run(["training.threads=1"], decided) == ["training.threads=1", settled[1]]


def test_command_of_a_run_has_the_number_of_a_rule_where_it_was_asked_for():
    auto = ["optimizer.learning_rate=1e-3", "seed=1", "optimizer.learning_rate=auto"]
    decided = dict.fromkeys(left_open(by_rule=True), 2e-4)
    assert as_run(auto, decided)[0] == "seed=1"
    assert chosen(as_run(auto, decided))["optimizer.learning_rate"] == "0.0002"
    assert as_run(auto, {}) == auto  # the machine's decisions alone leave it to the rule
    by_group = ["optimizer=adamw-auto"]
    assert chosen(as_run(by_group, decided))["optimizer.learning_rate"] == "0.0002"
    assert "optimizer.learning_rate" not in left_open(by_rule=False)
