"""A name of conf/model in model.tokenizer is composed into that model's checkpoint."""

import pytest

from pipeline.common.errors import ConfigError
from pipeline.config.compose import compose, hydra_app
from pipeline.config.tokenizer import tokenizer_of

NEW = ["model=tiny-bert"]


def composed(*overrides):
    with hydra_app("train") as hydra:
        return compose(hydra, [*NEW, *overrides]).model


def test_a_name_is_composed_into_the_checkpoint_and_others_stay(working_folder):
    checkpoint = composed("model=minilm").checkpoint
    assert composed("model.tokenizer=minilm").tokenizer == checkpoint
    assert composed("model.tokenizer=me/mine").tokenizer == "me/mine"
    (working_folder / "minilm").mkdir()
    assert composed("model.tokenizer=minilm").tokenizer == "minilm"  # a folder of the user's


@pytest.mark.parametrize("name", ["hub", "scratch", "tiny-gpt2"])
def test_a_model_without_a_checkpoint_is_refused(name):
    with pytest.raises(ConfigError, match=f"model.tokenizer={name}: .*{name}.yaml names no check"):
        composed(f"model.tokenizer={name}")


def test_a_broken_file_of_the_name_is_refused_by_its_line(working_folder):
    own = working_folder / "conf" / "model" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("checkpoint: [\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 2: "):
        tokenizer_of("mine")
