"""A tiny model and tiny data, built here, and the command line run in this process."""

import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

if TYPE_CHECKING:
    from mlflow import MlflowClient

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("MLFLOW_TRACKING_URI", None)  # the tests' stores are their own

from pipeline.cli import main, quiet_libraries
from pipeline.config.schema import ClassificationConfig, FilesConfig, ModelConfig
from pipeline.data import Rows, load_splits
from pipeline.data.labelled import Labelled
from pipeline.models import find_checkpoint
from pipeline.tasks import get_task
from pipeline.tasks.base import Task
from pipeline.tracking.store import open_store

quiet_libraries()

GOOD, BAD = ["good", "great", "fine", "nice", "lovely"], ["bad", "awful", "poor", "sad", "horrid"]
FILLERS = ["the", "a", "film", "book", "day", "was", "is", "very", "so", "and"]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as in a fresh process."""
    forget()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def forget() -> None:
    """Drop what a process keeps: it keeps it by config, and its own provenance for good."""
    from pipeline.models.weights import WEIGHTS
    from pipeline.tracking import provenance
    from pipeline.training import prepare as prepared

    by_config = (open_store, prepared._encoded, load_splits, find_checkpoint, WEIGHTS)
    for cached in (*by_config, provenance.environment, provenance._changes):
        cached.cache_clear()


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


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return reviews whose label shows in one word, all different."""
    chance = random.Random(seed)
    made: dict[str, str] = {}
    while len(made) < count:
        label = chance.choice(["neg", "pos"])
        words = [*chance.choices(FILLERS, k=5), chance.choice(GOOD if label == "pos" else BAD)]
        chance.shuffle(words)
        made.setdefault(" ".join(words), label)
    return [{"review": text, "stars": label} for text, label in made.items()]


FILES = FilesConfig(
    source="files",
    train="rows.jsonl",
    validation=None,
    test=None,
    encoding="utf-8",
    text="text",
    label="label",
    validation_size=0.1,
    test_size=0.1,
    split_seed=0,
    max_train_samples=None,
    max_validation_samples=None,
    max_test_samples=None,
)


def labelled(pairs: Sequence[tuple[str, str]]) -> Rows:
    """Return pairs of text and label as what is read of a file; their ids are 0, 1 and so on."""
    texts, labels = zip(*pairs, strict=True)
    columns = {"text": list(texts), "label": list(labels)}
    return Rows(Labelled(FILES), [str(i) for i in range(len(pairs))], columns)


def tiny_task(model: Path, counts: Mapping[str, int], max_length: int = 32, **settings) -> Task:
    """Return a classification by a model like `tiny_model`, of labels with so many rows."""
    config = ClassificationConfig(name="classification", **settings)
    checkpoint = find_checkpoint(ModelConfig(str(model), None))
    return get_task(config)(config, checkpoint, max_length, counts)


def write_rows(path: Path, records: list[dict[str, str]]) -> Path:
    """Write records as jsonl."""
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


@pytest.fixture
def tiny(tiny_model: Path, working_folder: Path) -> list[str]:
    """The overrides of a run that takes well under a second."""
    return tiny_config(tiny_model, write_rows(working_folder / "reviews.jsonl", rows(120)))


def tiny_config(model: Path | str, train: Path | str) -> list[str]:
    """Return the overrides of a run on a model like `tiny_model` and rows like those of `rows`."""
    return [
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={train}",
        "data.text=review",
        "data.label=stars",
        "training.epochs=1",
        "training.max_length=16",
        "training.eval_every=2",
        "training.logging_steps=2",
        "training.precision=float32",
        "training.checkpoint_seconds=0",
        "optimizer.learning_rate=1e-2",
    ]


@dataclass(frozen=True)
class Made:
    """A store that all tests of a module look at: made once, by `make_store`."""

    folder: Path  # where the commands were given

    @property
    def where(self) -> str:
        """The override that names it."""
        return f"tracking.dir={self.folder / 'mlruns'}"

    @property
    def client(self) -> "MlflowClient":
        """MLflow's client of it."""
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}")

    def runs(self, kind: str) -> list:
        """Return its runs by kind: study, trial or run."""
        client = self.client
        experiment = client.get_experiment_by_name("tunewright")
        found = client.search_runs([experiment.experiment_id], f"tags.`tunewright.kind` = '{kind}'")
        return sorted(found, key=lambda run: int(run.data.tags.get("tunewright.trial", 0)))


def make_store(folder: Path, *commands: Sequence[str]) -> Made:
    """Give `train` commands in a folder, each as in a fresh process, and return what they made.

    It takes no fixture of a single test, so that a module's fixture can call it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        for command in commands:
            forget()
            assert main(in_this_process(["train", *command])) == 0
    return Made(folder)


def artifact(run, name: str) -> Path:
    """Return where an artifact of a run lies."""
    return Path(url2pathname(urlsplit(run.info.artifact_uri).path)) / name


def in_this_process(argv: Sequence[str]) -> Sequence[str]:
    """Return a command whose search has one worker and no forecast, where it does not say so."""
    if argv[0] != "sweep" and not (argv[0] == "train" and "-m" in argv):
        return argv
    plain = ("hydra.sweeper.n_jobs=1", "hydra.sweeper.forecast=false")
    given = {word.partition("=")[0] for word in argv}
    return [*argv, *(word for word in plain if word.partition("=")[0] not in given)]


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process."""

    def run(*argv: str) -> Ended:
        capsys.readouterr()
        code = main(in_this_process(argv))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def runs(working_folder: Path):
    """Read the runs in the local store, by kind: study, trial or run."""
    return Made(working_folder).runs
