"""Makes a study's page and stores it with the study's parent run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from matplotlib import rc_context

from pipeline.analysis.fairness import FILE as BIAS_FILE
from pipeline.analysis.fairness import bias_section
from pipeline.analysis.insights import CURVE_FILE, LABELS_FILE
from pipeline.analysis.report.drawing import LOOK
from pipeline.analysis.report.param_charts import importances, parallel, slices
from pipeline.analysis.report.score_charts import history, intermediate_scores, pareto
from pipeline.analysis.report.sections import (
    cost_section,
    data_section,
    label_section,
    learning_curve_section,
    winner_section,
)
from pipeline.analysis.report.texts import best_table, failures, head
from pipeline.analysis.report.view import About, View
from pipeline.common.html import whole_page
from pipeline.search.study.storage import find_study
from pipeline.tracking import Store, studies, tags
from pipeline.tracking.commands import storage_of
from pipeline.tracking.record import COST_FILE
from pipeline.tracking.runs import is_deleted, log_page, read_json, run_of, seek_run

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

FILE = "report.html"
# The files logged with a study: the title of each one's section, and what makes it of the content.
SECTIONS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "winner.json": ("The winner on fresh seeds", winner_section),
    CURVE_FILE: ("Learning curve", learning_curve_section),
    LABELS_FILE: ("Label issues", label_section),
    BIAS_FILE: ("Fairness of the best trial", bias_section),
    COST_FILE: ("Forecast and cost", cost_section),
    "check.json": ("Data", data_section),
}


def report(store: Store, name: str, storage: str | None = None) -> str:
    """Make the page of a study, finished or not, store it with the study, and return where it is.

    The name may be the beginning of the study's; its storage is by default the one that its parent
    run names.

    Raises:
        TrackingError: where there is no such study, or its storage cannot be opened.
    """
    run = studies.find_study(store, name)
    study = find_study(run.data.tags[tags.STUDY], storage_of(store, run, storage))
    return write_page(store, study, run.info.run_id)


def write_page(store: Store, study: optuna.Study, parent_run_id: str) -> str:
    """Store the page with the study's parent run and return where it is."""
    run = run_of(store, parent_run_id)
    return log_page(store, run, page_of(store, study, run), FILE)


def page_of(store: Store, study: optuna.Study, run: Run) -> str:
    """Return the page of a study, with what is logged with it; nothing is written."""
    found = {file: read_json(store, run, file) for file in SECTIONS}
    logged = {file: content for file, content in found.items() if content is not None}
    best = run.data.tags.get(tags.BEST_RUN)
    lost = best is not None and is_deleted(seek_run(store, best))
    bias = read_json(store, run_of(store, best), BIAS_FILE) if best and not lost else None
    if bias is not None:
        logged[BIAS_FILE] = bias
    about = replace(About.read(run.data.tags, run.data.params), best_is_lost=lost)
    return study_page(study, about, logged)


def study_page(
    study: optuna.Study, about: About, logged: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Return the page of a study in any state, with the contents of files logged: `SECTIONS`."""
    view = View(study, about)
    with rc_context(LOOK):
        sections = {
            "Best trials": best_table(view),
            "Optimisation history": history(view),
            "Pareto front": pareto(view),
            "Parameter importances": importances(view),
            "Parallel coordinates": parallel(view),
            "Slices": slices(view),
            "Intermediate scores": intermediate_scores(view),
            "Failures": failures(view),
        }
        for file, content in (logged or {}).items():
            title, make = SECTIONS[file]
            sections[title] = make(content)
    named = [f"<section><h2>{k}</h2>{text}</section>" for k, text in sections.items() if text]
    return whole_page(study.study_name, "\n".join([head(view), *named]))
