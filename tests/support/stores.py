"""Commands given in this process, and the stores they make."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.cli import main
from pipeline.common.session import session
from pipeline.tracking.kept_models import MODEL_FOLDER, place_of
from pipeline.tracking.location import local_path, settle_in
from tests.support.quick import no_figures

if TYPE_CHECKING:
    from mlflow import MlflowClient


def forget() -> None:
    """Drop what a process keeps."""
    session().clear()


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
    with pytest.MonkeyPatch.context() as patch, no_figures():
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        for command in commands:
            forget()
            assert main(in_this_process(["train", *command])) == 0
    return Made(folder)


def copy_store(made: Made, folder: Path) -> None:
    """Copy a folder with its store into another, as if its commands had been given there."""
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    settle_in(folder / "mlruns", made.folder / "mlruns")


def cost_of(run) -> dict:
    """Return what a run or a study cost, as it was logged: with an account of its time."""
    return json.loads(artifact(run, "cost.json").read_text(encoding="utf-8"))


def splits_of(run) -> dict:
    """Return how many rows and examples a run had of each split, as it was logged."""
    inputs = json.loads(artifact(run, "inputs.json").read_text(encoding="utf-8"))
    return inputs["data"]["splits"]


def scores_of(run, split: str = "val") -> dict[tuple[str, str], float]:
    """Return the table of a run's scores on a split, as it was logged, by row and column."""
    table = json.loads(artifact(run, f"{split}_scores.json").read_text(encoding="utf-8"))
    first, *columns = table["columns"]
    assert first == "of"
    cells = ((row[0], zip(columns, row[1:], strict=True)) for row in table["data"])
    return {(of, column): v for of, row in cells for column, v in row if v is not None}


def artifact(run, name: str) -> Path:
    """Return where an artifact of a run lies; ``model`` is where it keeps its model if it does."""
    if name == MODEL_FOLDER:
        return Path(local_path(place_of(run)))
    return Path(local_path(run.info.artifact_uri)) / name


def predictions_of(run) -> list[dict]:
    """Return the rows of a run's table of predictions."""
    table = json.loads(artifact(run, "predictions.json").read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


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
