"""What commands show, made once for all that look at it."""

import pytest
from filelock import FileLock

from tests.support.rows import rows, write_rows
from tests.support.shown import ROWS, Shown
from tests.support.stores import tiny_config


@pytest.fixture(scope="session")
def shown(tmp_path_factory, tiny_model) -> Shown:
    """A run, and three searches: by two workers, of two objectives, one that promotes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen") else base) / "figures"
    with FileLock(f"{folder}.lock"):
        made = Shown(folder)
        if not (folder / "done").exists():
            folder.mkdir()
            tiny = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(ROWS)))
            learning = ("training.epochs=4", "training.eval_every=1.0", "training.batch_size=8")
            keys = ("optimizer.learning_rate=3e-2,1e-3", "training.batch_size=8,16")
            sweep = (
                "train",
                "-m",
                *tiny,
                "training.epochs=3",
                *keys,
                "hydra.sweeper.study_name=two",
            )
            broken = "task.class_weights=null,[1e38,1e38]"
            goals = "evaluation.objective=[val/f1_macro,cost/parameters]"
            rungs = ("hydra/sweeper/pruner=promote", "hydra.sweeper.pruner.min_resource=1")
            made.give("train", "train", *tiny, *learning)
            made.give("plan", *sweep, "--dry-run")
            made.give("two", *sweep, "hydra.sweeper.n_jobs=2")
            differing = ("training.epochs=3", "training.batch_size=8", "seed=43")  # F1 by seed
            made.give(
                "several",
                *("train", "-m", *tiny, "optimizer.learning_rate=3e-2", *differing),
                *(broken, goals, "hydra.sweeper.repeats=2"),
                *("hydra.sweeper.study_name=several", "hydra.sweeper.n_jobs=2"),
            )
            made.give(
                "promoted",
                *("train", "-m", *tiny, *learning, "optimizer.learning_rate=1e-9,1e-8,1e-7,0.03"),
                *(*rungs, "hydra.sweeper.study_name=promoted", "hydra.sweeper.forecast=false"),
            )
            for study in ("two", "several", "promoted"):
                made.give(f"best-{study}", "best", study)
                made.give(f"compare-{study}", "compare", study, "--format", "csv")
            made.give("runs", "runs", "--format", "csv")
            made.give("confirm", "confirm", "two", "--seeds", "3")
            (folder / "done").touch()
    return made
