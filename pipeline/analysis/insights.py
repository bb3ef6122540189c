"""What some searches are for: a learning curve, a list of label issues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import optuna

from pipeline.analysis.label_issues import LabelReport, find_label_issues
from pipeline.analysis.learning_curve import LearningCurve, fit_power_law
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import REPEATS, ended
from pipeline.tracking import Store, tags
from pipeline.tracking.record import INPUTS_FILE
from pipeline.tracking.runs import read_json
from pipeline.tracking.trials import trials_of

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

SHARE, FOLD = "data.train_share", "data.fold"  # the keys whose search has a meaning of its own
CURVE_FILE, LABELS_FILE = "learning_curve.json", "label_errors.json"  # artifacts of the study

Insight = LearningCurve | LabelReport


def insights(
    store: Store, study: optuna.Study, spec: StudySpec, metric: str
) -> Mapping[str, Insight]:
    """Return what the space of a study that is over asks for, by the name of its artifact.

    The metric is that of its first objective.
    """
    searched = {key for d in spec.space.dimensions for key in d.keys}
    found: dict[str, Insight | None] = {}
    if SHARE in searched:
        found[CURVE_FILE] = _curve(store, study, spec, metric)
    if FOLD in searched:
        found[LABELS_FILE] = _label_issues(store, study, spec)
    return {file: insight for file, insight in found.items() if insight is not None}


def _curve(store: Store, study: optuna.Study, spec: StudySpec, metric: str) -> Insight | None:
    known = {run.data.tags[tags.TRIAL]: run for run in trials_of(store, study.study_name)}
    rows, scores = [], []
    for trial in ended(study, "complete"):
        n = _training_rows(store, known.get(str(trial.number)))
        if n is not None:
            values = [one[0] for one in trial.user_attrs.get(REPEATS, [trial.values])]
            rows += [n] * len(values)
            scores += values
    bound = 0.0 if spec.directions[0] == "minimize" else 1.0
    is_share = all(0 <= score <= 1 for score in scores)
    known_bound = bound if is_share or not bound else None
    return fit_power_law(rows, scores, metric.removeprefix("val/"), known_bound)


def _training_rows(store: Store, run: Run | None) -> int | None:
    """Return how many rows a run was trained on; None where its record does not say so any more."""
    inputs = read_json(store, run, INPUTS_FILE) if run else None
    return int(inputs["data"]["splits"]["train"]["rows"]) if inputs else None


def _label_issues(store: Store, study: optuna.Study, spec: StudySpec) -> Insight | None:
    """Return the label issues, where the folds are all that was searched."""
    runs = [
        run
        for run in trials_of(store, study.study_name)
        if run.data.tags.get(tags.STATE) == "complete"
        and run.data.tags.get(tags.REPEAT, "0") == "0"
    ]
    is_whole = len({run.data.params[FOLD] for run in runs}) == spec.space.size == len(runs)
    return find_label_issues(store, runs) if is_whole else None
