"""Hydra's flags, at the command line; what differs from Hydra is in docs/config.md."""

import os
from pathlib import Path

import pytest
import yaml

from pipeline.cli import VERBS, main
from pipeline.config.flags import NAME_VARIABLE, PATH_VARIABLE
from tests.support.refusals import refused

EXTENDS = "defaults:\n  - base\n  - override {}\n  - _self_\n"


def write(file, text):
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)


def shown(cli, *given, kind="job"):
    ended = cli("train", *given, "--cfg", kind)
    assert ended.code == 0, ended.err
    return yaml.safe_load(ended.out)


def test_cfg_shows_the_job_hydra_or_all(cli):
    job, hydra, both = (shown(cli, kind=kind) for kind in ("job", "hydra", "all"))
    assert list(hydra) == ["hydra"]
    assert both == {**hydra, **job}
    assert "hydra" not in job


def test_resolve_and_package_show_values_and_a_part(cli):
    assert shown(cli, "-p", "evaluation")["objective"] == "${task.objective}"
    assert shown(cli, "--resolve", "-p", "evaluation")["objective"] == "val/f1_macro"
    for kind in ("hydra", "all"):
        assert shown(cli, "-p", "hydra.sweep.dir", kind=kind).startswith("mlruns/studies/")
    assert shown(cli, "-p", "model.revision") is None
    assert shown(cli, "data=files", "-p", "data.train") == "???"
    assert shown(cli, "-p", "_global_") == shown(cli)
    assert shown(cli, "--resolve", "hydra.run.dir=${nowhere}")["seed"] == 42


def test_a_config_that_cannot_be_is_shown_and_refused(cli):
    for kind in ("job", "all"):
        ended = cli("train", "--cfg", kind, "training.epochs=-1")
        assert yaml.safe_load(ended.out)["training"]["epochs"] == -1
        refused(ended, "training.epochs=-1: should be greater than or equal to 0")
    assert shown(cli, "training.epochs=-1", kind="hydra")
    assert shown(cli, "data=files", "training.epochs=-1")["data"]["train"] == "???"


def test_own_train_yaml_extends_the_packaged_experiment(cli):
    write("conf/train.yaml", EXTENDS.format("optimizer: sgd") + "seed: 7\ntraining:\n  epochs: 1\n")
    job = shown(cli)
    assert (job["seed"], job["training"]["epochs"], job["optimizer"]["name"]) == (7, 1, "SGD")
    assert job["training"]["batch_size"] == 16


def test_config_name_path_and_dir_say_where_the_config_is_read(cli):
    write("team/night.yaml", EXTENDS.format("optimizer: mine"))
    write("more/optimizer/mine.yaml", "name: Adagrad\nlearning_rate: 0.1\nweight_decay: 0.0\n")
    given = ("-cp", "team", "-cn", "night", "-cd", "more")
    assert shown(cli, "-p", "optimizer.name", *given) == "Adagrad"
    assert not {NAME_VARIABLE, PATH_VARIABLE} & set(os.environ)
    there = "there is no nigth.yaml in team/ or the packaged conf/. Did you mean night?"
    refused(cli("train", "-cp", "team", "-cn", "nigth"), f"--config-name nigth: {there}")
    write("team/day.yaml", "defaults:\n  - nigth\n")
    refused(cli("train", "-cp", "team", "-cn", "day"), f"defaults: {there}")
    refused(cli("train", "-cp", "teams"), "teams: there is no such folder of configs")


def test_an_experiment_is_a_preset(cli):
    preset = "# @package _global_\ndefaults:\n  - override /optimizer: sgd\nseed: 11\n"
    write("conf/experiment/fast.yaml", preset)
    assert "experiment=fast" in cli("list", "experiments").out
    job = shown(cli, "experiment=fast")
    assert (job["seed"], job["optimizer"]["name"]) == (11, "SGD")
    refused(cli("train", "experiment=slow"), "experiment=slow: there is no such option", "fast")
    refused(cli("train", "+experiment=fast"), "choose by experiment=NAME, without +")
    write("conf/train.yaml", "defaults:\n  - base\n  - _self_\n  - experiment: null\nseed: 7\n")
    assert shown(cli, "experiment=fast", "-p", "seed") == 11  # it wins over one's own defaults
    write("conf/train.yaml", "defaults:\n  - base\n  - _self_\nseed: 7\n")
    refused(cli("train", "experiment=fast"), "defaults of train.yaml: write +experiment=fast")
    assert shown(cli, "+experiment=fast", "-p", "seed") == 11


def test_searchpath_adds_a_folder(cli):
    write("more/optimizer/mine.yaml", "name: Adagrad\nlearning_rate: 0.1\nweight_decay: 0.0\n")
    where = f"hydra.searchpath=[file://{Path('more').absolute()}]"
    assert shown(cli, where, "optimizer=mine", "-p", "optimizer.name") == "Adagrad"


def test_a_searchs_workers_read_the_same_folders(cli, tiny, runs):
    write("team/optimizer/mine.yaml", "name: Adagrad\nlearning_rate: 0.1\nweight_decay: 0.0\n")
    given = ("optimizer=mine", "seed=1,2", "hydra.sweeper.n_jobs=2")
    assert cli("train", "-m", *tiny, *given, "-cd", "team").code == 0
    assert {run.data.params["optimizer.name"] for run in runs("trial")} == {"Adagrad"}


def test_info_shows_what_is_composed(cli):
    assert "hydra_plugins" in cli("train", "--info", "searchpath").out


def test_a_word_behind_cfg_is_a_kind_and_no_override(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "seed=1", "--cfg", "seed=2"])
    assert "invalid choice: 'seed=2'" in capsys.readouterr().err


NAMES = [verb.__name__.rpartition(".")[2].replace("_", "-") for verb in VERBS]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("convert", "completion")])
def test_every_verb_that_reads_configs_takes_where_they_are(name, cli):
    names = {"list": ["models"], "diff": ["a", "b"], "export": ["a", "b"], "register": ["a", "b"]}
    names |= {"push": ["a", "hub:a/b"], "study": ["a", "stop"]}
    files = ["--input", "a", "--output", "b"] if name == "predict" else []
    refused(cli(name, *names.get(name, ["a"]), *files, "-cd", "teams"), "teams: there is no such")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--resolve",), "--resolve: expected with --cfg"),
        (("--cfg", "job", "-p", "trainning"), "--package trainning: the config has no such part"),
        (("--cfg", "job", "training.epoks=3"), "training.epoks is not a key of the config"),
    ],
)
def test_what_cannot_be_shown_is_refused(cli, given, said):
    refused(cli("train", *given), said)


def test_list_and_show_print_what_there_is(cli):
    write("conf/model/mine.yaml", "# Ours, 3 M parameters. More words.\ncheckpoint: ./ours\n")
    listed = cli("list", "models", "--format", "csv").out.splitlines()
    assert 'model=mine,"Ours, 3 M parameters"' in listed
    assert "tunewright sweep demo" in cli("list", "sweeps").out
    assert yaml.safe_load(cli("sweep", "demo", "--show").out)["sampler"] == "grid"


def test_a_launcher_that_is_not_installed_names_its_package(cli):
    ended = cli("train", "-m", "hydra/launcher=joblib", "seed=1,2")
    refused(ended, "hydra/launcher=joblib", "Install hydra-joblib-launcher.")


def test_a_tokenizer_may_be_that_of_a_model_in_the_menu(cli, tiny, tiny_model, runs):
    write("conf/model/mine.yaml", f"checkpoint: {tiny_model}\n")
    own = [one for one in tiny if not one.startswith(("model=", "model.checkpoint"))]
    assert cli("train", *own, "model=tiny-bert", "model.tokenizer=mine").code == 0
    (run,) = runs("run")
    assert run.data.params["model.tokenizer"] == str(tiny_model)
    Path("conf/model/mine.yaml").unlink()  # another machine has none
    again = cli("rerun", run.info.run_id, "--verify")
    assert "verdict: identical" in again.out, again.err


@pytest.mark.parametrize("words", [["train"], ["train", "--cfg", "job"]])
def test_own_train_yaml_without_base_is_refused(cli, working_folder, words):
    folder = working_folder / "conf"
    folder.mkdir()
    (folder / "train.yaml").write_text("seed: 7\n")
    refused(cli(*words, "seed=1"), "train.yaml", "`- base` first")
