"""A study's view in the MLflow UI: its columns, best trial first, and its charts.

MLflow keeps a saved view as a tag of the experiment, lists it under "Saved views", and opens it by
a link. The format is that of its front end (`savedViewEnvelope.ts`, `ExperimentPageUIState.tsx`,
`runs-charts.types.ts`), as of 3.17.
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import TrackingError
from pipeline.tasks.objective import parse
from pipeline.tracking import tags
from pipeline.tracking.overview import goals_of
from pipeline.tracking.runs import quoted
from pipeline.tracking.store import Store
from pipeline.tracking.studies import searched_keys
from pipeline.tracking.trials import trials_of

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

TAG = "mlflow.sharedViewState."
MOST_KEYS = 12  # columns, and axes of a chart: more cannot be read
CHARTS = "Study"  # the section that is open
# Sections of all metrics, in the order of interest; MLflow would sort them.
FOLDED = ("val", "test", "val/majority", "train", "best", "cost", "time")


@dataclass(frozen=True)
class View:
    """What the page of a study shows."""

    study: str
    metrics: tuple[str, ...]  # of its objectives
    maximize: bool  # the first of them
    keys: tuple[str, ...]  # searched parameters, those that matter most first
    shared: tuple[str, ...]  # those of them that every trial has
    sections: tuple[str, ...] = FOLDED  # of metrics, which are closed
    has_stages: bool = False

    def state(self) -> dict[str, Any]:
        """Return the state of MLflow's page."""
        score, keys = self.metrics[0], self.keys[:MOST_KEYS]
        columns = [f"metrics.`{metric}`" for metric in self.metrics]
        columns += [f"params.`{key}`" for key in keys]
        columns += [f"tags.`{tags.STAGE}`"] * self.has_stages
        columns.append(f"tags.`{tags.STATE}`")
        return {
            "searchFilter": f"tags.`{tags.STUDY}` = '{quoted(self.study)}'"
            f" and tags.`{tags.KIND}` = 'trial'",
            "orderByKey": f"metrics.`{score}`",
            "orderByAsc": not self.maximize,
            "selectedColumns": [*columns, "attributes.`Duration`"],
            "columnOrder": [*columns, "duration"],
            "columnWidths": {column: _width(column) for column in columns} | {"duration": 90},
            "runsHiddenMode": "SHOW_ALL",
            "isAccordionReordered": True,  # ours stay in their order
            "compareRunSections": [
                {"uuid": name, "name": name, "display": name == CHARTS, "columns": columns}
                for name, columns in {CHARTS: 2, **dict.fromkeys(self.sections, 3)}.items()
            ],
            "compareRunCharts": list(self._charts(score)),
        }

    def _charts(self, score: str) -> list[dict[str, Any]]:
        """Return the charts: all searched parameters at once, each trial's course, one of them."""
        charts: list[dict[str, Any]] = [
            {
                "type": "PARALLEL",
                "selectedParams": list(self.shared[:MOST_KEYS]),
                "selectedMetrics": list(self.metrics),
                "showAllRuns": True,
            },
            {
                "type": "LINE",
                "metricKey": score,
                "selectedMetricKeys": [score],
                "xAxisKey": "step",
                "lineSmoothness": 0,  # else 70 %: the drawn scores were none that a trial had
                "useGlobalLineSmoothing": True,
                "useGlobalXaxisKey": True,
            },
            *(
                {
                    "type": "SCATTER",
                    "xaxis": {"key": key, "type": "PARAM"},
                    "yaxis": {"key": score, "type": "METRIC"},
                }
                for key in self.keys[:1]
            ),
        ]
        own = {"metricSectionId": CHARTS, "deleted": False, "isGenerated": False}
        return [{"uuid": chart["type"], **own, **chart} for chart in charts]

    def tag(self, made: int) -> str:
        """Return the value of the experiment's tag; ``made`` is in milliseconds."""
        packed = zlib.compress(json.dumps(self.state()).encode(), 9)
        state = f"deflate;{base64.b64encode(packed).decode()}"
        return json.dumps({"name": self.study, "createdAt": made, "state": state})


def _width(column: str) -> int:
    """Return the pixels in which a column's name can be read."""
    name = column.partition("`")[2]
    return min(max(7 * len(name) + 40, 100), 240)


def view_of(store: Store, study: Run, leading: Sequence[str] = ()) -> View:
    """Return what the page of a study shows: ``leading`` are the keys that matter most.

    Raises:
        TrackingError: where its record does not name its objective.
    """
    name, goals = study.data.tags[tags.STUDY], goals_of([study])
    order = {key: place for place, key in enumerate(leading)}
    keys = sorted(searched_keys(study), key=lambda key: order.get(key, len(order)))
    trials = trials_of(store, name)
    shared = keys
    # One that was killed early has none; a condition may leave a key out.
    if logged := [set(run.data.params) for run in trials if run.data.params]:
        keys = [key for key in keys if key in set.union(*logged)]
        shared = [key for key in keys if key in set.intersection(*logged)]
    metrics = [parse(goal, direction).metric for goal, direction in goals]
    maximize, sections = goals[0][1] == "maximize", _sections(trials)
    has_stages = any(tags.STAGE in run.data.tags for run in trials)
    return View(name, tuple(metrics), maximize, tuple(keys), tuple(shared), sections, has_stages)


def _sections(trials: Sequence[Run]) -> tuple[str, ...]:
    """Return MLflow's sections of the metrics that trials have; all there may be without trials."""
    found = {metric.rpartition("/")[0] for run in trials for metric in run.data.metrics}
    known = [section for section in FOLDED if section in found or not found]
    return (*known, *sorted(found - {*FOLDED}))


def write_view(store: Store, study: Run, leading: Sequence[str] = ()) -> None:
    """Keep the view of a study with its experiment; a store that fails costs no more."""
    try:
        _write(store, study, leading)
    except Exception:
        log.warning("study %s: its view could not be kept", study.info.run_name, exc_info=True)


def _write(store: Store, study: Run, leading: Sequence[str] = ()) -> None:
    tag = view_of(store, study, leading).tag(study.info.start_time)
    experiment = store.client.get_experiment(study.info.experiment_id)
    if experiment.tags.get(key := f"{TAG}{study.info.run_id}") != tag:
        store.client.set_experiment_tag(experiment.experiment_id, key, tag)


def ensure_view(store: Store, study: Run) -> str:
    """Return the link to a study's view; a study of an older version is given one.

    It leads to all runs where that is not possible: the store may be one to look at only.
    """
    from mlflow.exceptions import MlflowException

    known = store.client.get_experiment(study.info.experiment_id).tags
    try:
        if f"{TAG}{study.info.run_id}" not in known:
            _write(store, study)
    except (MlflowException, TrackingError):
        return view_link(study).partition("&")[0]
    return view_link(study)


def view_link(study: Run) -> str:
    """Return the link to a study's view, from the address of the MLflow UI."""
    where = f"#/experiments/{study.info.experiment_id}/runs"
    return f"{where}?workflowType=machine_learning&viewStateShareKey={study.info.run_id}"
