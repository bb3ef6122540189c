"""Whether a search's winner beats the default config and the baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import TrackingError
from pipeline.tasks import get_task
from pipeline.tasks.objective import objectives
from pipeline.tracking import Store
from pipeline.tracking.runs import read_json
from pipeline.training.prepare import load_model, prepare, shape_of, splits_of, task_of

if TYPE_CHECKING:
    import numpy as np

    from pipeline.config.experiment import Experiment
    from pipeline.data import Rows
    from pipeline.evaluation.significance import Difference
    from pipeline.tracking.runs import Run

TABLE = "predictions.json"  # artifact of a run: its rows and what it predicted


@dataclass(frozen=True)
class Side:
    """One side of a comparison, on one or several seeds."""

    name: str
    scores: Sequence[float]  # on the test split, one a seed
    predictions: Sequence[Sequence[str]]  # label of each row, one list a seed

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.scores)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 of a single one."""
        return stdev(self.scores) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class Against:
    """The winner compared with something else."""

    name: str
    mean: float
    spread: float
    seeds: int
    difference: float
    error: float
    p: float
    interval: tuple[float, float] | None
    mcnemar_p: float | None
    words: str


@dataclass(frozen=True)
class WinnerReport:
    """The result of retraining the winner."""

    trial: int
    metric: str  # of the test split
    rows: int  # of the test split; 0 where no rows were compared
    mean: float
    spread: float
    seeds: int
    search_score: float  # the winning one
    validation_mean: float  # of the fresh seeds
    selection_gap: float  # by how much the search's score was better than that
    test_reads: int  # runs of this store that read this test split
    against: Sequence[Against]

    def lines(self) -> list[str]:
        """Return it as text."""
        seeds = f"{self.seeds} fresh seed{'s' if self.seeds > 1 else ''}"
        return [
            f"winner, trial {self.trial}: {self.metric} {self.mean:.4f} ± {self.spread:.4f} on "
            f"{seeds}",
            f"selection gap: the search saw {self.search_score:.4f}, fresh seeds give "
            f"{self.validation_mean:.4f} on the same validation rows ({self.selection_gap:+.4f})",
            *(one.words for one in self.against),
            f"{self.test_reads} runs of this store have read the test split so far",
        ]

    def as_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1)


def judge(
    winner: Side, other: Side, truth: Sequence[str], metric: str, labels: Sequence[str]
) -> Against:
    """Compare the winner with the default config or a baseline, by a metric without the split.

    The truth is the label of each row; empty where no rows can be compared.
    """
    import numpy as np

    from pipeline.evaluation.significance import compare, compare_scores

    if truth:
        first, second = (_positions(side.predictions, labels) for side in (winner, other))
        found = compare(first, second, _positions([truth], labels)[0], metric, labels)
    else:
        found = compare_scores(np.array(winner.scores), np.array(other.scores))
    return Against(
        other.name,
        other.mean,
        other.spread,
        len(other.scores),
        found.value,
        found.error,
        found.p,
        found.interval,
        found.mcnemar_p,
        _as_text(found, other.name, metric, len(truth)),
    )


def _as_text(found: Difference, name: str, metric: str, rows: int) -> str:
    on = f", on {rows:,} rows" if rows else ""
    size = f"{abs(found.value):.4f} ± {found.error:.4f} {metric}"
    if found.is_clear:
        better = "better" if found.value > 0 else "worse"
        return f"{better} than {name} by {size}, p = {found.p:.2g}{on}"
    size = f"{found.value:+.4f} ± {found.error:.4f} {metric}"
    return f"not distinguishable from {name} ({size}, p = {found.p:.2g}{on})"


def _positions(names: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray[Any, Any]:
    import numpy as np

    position = {label: i for i, label in enumerate(labels)}
    return np.array([[position[name] for name in some] for some in names])


def has_rows(experiment: Experiment) -> bool:
    """Whether the objective can be compared row by row: of one label a row."""
    from pipeline.evaluation.significance import can_resample

    has_one_label = shape_of(experiment).has_one_label
    return has_one_label and can_resample(objectives(experiment)[0].name)


def side_of(store: Store, name: str, runs: Sequence[Run], metric: str, *, with_rows: bool) -> Side:
    """Return a config's results on the test split, of complete runs, one a seed.

    The metric is without the split; with rows the runs' predictions are read as well.
    """
    scores = [run.data.metrics[f"test/{metric}"] for run in runs]
    tables = [_table(store, run) for run in runs] if with_rows else []
    return Side(name, scores, [table["prediction"] for table in tables])


def truth_of(store: Store, run: Run) -> list[str]:
    """Return the true label of each row of the test split, in the order of its predictions."""
    return list(_table(store, run)["label"])


def _table(store: Store, run: Run) -> dict[str, list[Any]]:
    table = read_json(store, run, TABLE)
    if table is None:  # every complete run has one
        raise TrackingError(f"run {run.info.run_id}: its artifact {TABLE} is gone or damaged.")
    return dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))


def baselines(experiment: Experiment) -> list[Side]:
    """Predict the test split without training the model.

    The most frequent label; TF-IDF with logistic regression; and, where the model answers by the
    probability of the labels' names, the model as it is.
    The experiment is of one label a row, and reads its test split.
    """
    from pipeline.evaluation.baselines import tfidf_predictions
    from pipeline.evaluation.metrics import classification_scores

    splits, metric = splits_of(experiment), objectives(experiment)[0].name
    train, test = splits.train, splits.test
    assert test is not None  # it was asked for
    counts = splits.targets.counts
    answers = {
        "the most frequent label": [max(counts, key=lambda name: counts[name])] * len(test),
        "TF-IDF with logistic regression": tfidf_predictions(
            train.groups, train["label"], test.groups
        ),
    }
    if get_task(experiment.task).answers_untrained:
        answers["the model without training"] = _zero_shot(experiment, test)
    labels = list(counts)
    return [
        Side(name, [classification_scores(found, test["label"], labels)[metric]], [found])
        for name, found in answers.items()
    ]


def _zero_shot(experiment: Experiment, test: Rows) -> list[str]:
    task, examples = task_of(experiment), prepare(experiment).examples.get("test")
    assert examples is not None
    assert len(examples.rows) == len(test)
    outputs = task.infer(load_model(experiment, task), examples, experiment.training.batch_size)
    return [str(label) for label in task.decode(examples, outputs)["prediction"]]
