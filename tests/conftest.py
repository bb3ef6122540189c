"""A tiny model and tiny data, built here, and the command line run in this process."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a tiny model gains nothing by another thread
os.environ.pop("MLFLOW_TRACKING_URI", None)  # the tests' stores are their own
os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)

from pipeline.api.guest import quiet_libraries
from pipeline.cli import main
from pipeline.tracking.signature import KEY_VARIABLE
from tests.support.quick import copy_tables, freeze, look_up_once, measure_once, no_figures
from tests.support.rows import BAD, FILLERS, GOOD, rows, write_rows
from tests.support.stores import (
    Ended,
    Made,
    copy_store,
    forget,
    in_this_process,
    make_store,
    tiny_config,
)

quiet_libraries()


@pytest.fixture(scope="session", autouse=True)
def made_once(tmp_path_factory: pytest.TempPathFactory):
    """Share between tests what takes each of them seconds to make."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, str(folder / "record.key"))
        copy_tables(patch, folder)
        measure_once(patch)
        look_up_once(patch)
        yield


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as in a fresh process."""
    forget()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    freeze()
    return tmp_path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer and 16 dimensions over the words of `write_rows`, random weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *FILLERS]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the other tiny models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def encoder(models_folder: Path) -> Path:
    """A BERT that knows the words of `classifiers`."""
    from tests.support import classifiers, word_models

    return word_models.encoder(models_folder / "encoder", classifiers.WORDS)


@pytest.fixture(scope="session")
def decoder(models_folder: Path) -> Path:
    """A Llama that knows the words of `classifiers`."""
    from tests.support import classifiers, word_models

    return word_models.decoder(models_folder / "decoder", classifiers.WORDS)


@pytest.fixture(scope="session")
def reader(models_folder: Path) -> Path:
    """A BERT that reads the questions and contexts of `answers`."""
    from tests.support import answers, word_models

    return word_models.encoder(models_folder / "reader", answers.WORDS)


@pytest.fixture(scope="session")
def writers(models_folder: Path) -> dict[str, Path]:
    """A model of each kind that writes, by its kind."""
    from tests.support.writers import KINDS, TEXTS

    return {kind: make(models_folder / kind, TEXTS) for kind, make in KINDS.items()}


@pytest.fixture(scope="session")
def chatter(models_folder: Path) -> Path:
    """A Llama with a chat template."""
    from tests.support.chats import TEXTS
    from tests.support.tiny_models import CHATML, tiny_llama, tiny_tokenizer

    tokenizer = tiny_tokenizer(TEXTS, begin=True, template=CHATML)
    return tiny_llama(models_folder / "chatter", TEXTS, tokenizer)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store with a run of each task."""
    from tests.support.served import TASKS, command_of

    folder = tmp_path_factory.mktemp("served")
    return make_store(folder, *(command_of(task, folder) for task in TASKS))


@pytest.fixture
def allow(tiny_model: Path) -> list[str]:
    """What a user says who trusts a record's model folder."""
    return ["--allow", str(tiny_model)]


@pytest.fixture
def tiny(tiny_model: Path, working_folder: Path) -> list[str]:
    """The overrides of a run that takes well under a second."""
    return tiny_config(tiny_model, write_rows(working_folder / "reviews.jsonl", rows(120)))


@pytest.fixture(scope="session")
def of_two_seeds(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Made:
    """A folder with the study ``mine`` of two seeds; tests work on copies."""
    folder = tmp_path_factory.mktemp("mine")
    write_rows(folder / "reviews.jsonl", rows(120))
    return make_store(folder, two_seeds(tiny_model)[1:])


@pytest.fixture
def mine(of_two_seeds: Made, tiny_model: Path, working_folder: Path) -> list[str]:
    """The command of the study ``mine``, as if it had been given here."""
    copy_store(of_two_seeds, working_folder)
    return two_seeds(tiny_model)


def two_seeds(model: Path) -> list[str]:
    """Return the command of a study of two trials."""
    given = tiny_config(model, "reviews.jsonl")
    return ["train", "-m", *given, "seed=1,2", "hydra.sweeper.study_name=mine"]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[..., Ended]:
    """Run a command in this process, which draws its figures where a test is marked so."""
    drawn = request.node.get_closest_marker("draws")

    def run(*argv: str) -> Ended:
        capsys.readouterr()
        with nullcontext() if drawn else no_figures():
            code = main(in_this_process(argv))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def runs(working_folder: Path):
    """Read the runs in the local store, by kind: study, trial or run."""
    return Made(working_folder).runs
