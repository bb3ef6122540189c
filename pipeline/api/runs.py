"""A run in MLflow: what it found, its model, the run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.guest import as_guest
from pipeline.api.models import Model, load
from pipeline.api.overrides import Overrides, as_texts
from pipeline.api.reports import card
from pipeline.common.errors import ConfigError, did_you_mean
from pipeline.common.text import say

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

    from pipeline.tracking import Store
    from pipeline.tracking.runs import Run as Record
    from pipeline.tracking.verdict import RerunVerdict


@dataclass(frozen=True)
class Run:
    """A run, or a trial of a study, as MLflow has it at the moment."""

    _store: Store = field(repr=False)
    id: str  # MLflow's

    @property
    def name(self) -> str:
        """What MLflow's pages call it: model, data and time, or a trial's searched values."""
        return str(self._record.info.run_name)

    @property
    def state(self) -> str:
        """Running, paused, complete, pruned, failed or killed."""
        from pipeline.tracking.runs import state_of

        return state_of(self._record)

    @property
    def objective(self) -> str:
        """The metric that the run is judged by: ``val/f1_macro``."""
        from pipeline.tracking.overview import objectives_of

        return objectives_of(self._record)[0]

    @property
    def score(self) -> float | None:
        """The objective's value at the best evaluation; None where there is none yet."""
        from pipeline.tracking.overview import objectives_of, score_of

        record = self._record
        return score_of(self._store, record, objectives_of(record)[0])

    @property
    def metrics(self) -> Mapping[str, float]:
        """The value of each metric, as ``val/accuracy``."""
        from pipeline.tracking.metrics import metrics_of

        return metrics_of(self._record)

    @property
    def params(self) -> Mapping[str, str]:
        """The config, flat, as MLflow keeps it: texts by dotted key."""
        return dict(self._record.data.params)

    @property
    def verdict(self) -> RerunVerdict | None:
        """Of a rerun: its ``kind``, identical, equivalent or different, and its ``detail``."""
        from pipeline.tracking import tags
        from pipeline.tracking.verdict import RerunVerdict

        noted = self._record.data.tags.get(tags.VERDICT)
        return RerunVerdict.read(noted) if noted else None

    def history(self, metric: str) -> pd.Series[float]:
        """Return a metric's values by the step at which they were logged.

        Raises:
            ConfigError: for a metric that the run has not logged, naming the nearest.
        """
        import pandas as pd

        from pipeline.tracking.metrics import history

        known = self.metrics
        if metric not in known:
            raise ConfigError(
                f"{metric}: run {self.id} has logged no such metric.{did_you_mean(metric, known)}"
            )
        points = history(self._store, self.id, metric)
        return pd.Series(points, name=metric, dtype=float).rename_axis("step")

    def model(self) -> Model:
        """Load the model that the run keeps; of a study only the best trials keep one.

        Raises:
            TrackingError: where it keeps none.
        """
        return load(self.id, self._store.options)

    def rerun(
        self,
        overrides: Overrides = (),
        *,
        strict: bool = False,
        tolerance: float | None = None,
        allow: Sequence[str | PathLike[str]] = (),
        show: bool = True,
    ) -> Run:
        """Run it again from its record alone; return the new run, which has a `verdict`.

        A run that failed or is not over gives no verdict, since it has no result.

        Args:
            overrides: what is to be otherwise than in the record.
            strict: refuse to start where anything else is not as it was: code, data, packages.
            tolerance: the largest difference that counts as equivalent; None: 0.001.
            allow: folders that the record may name, where somebody else wrote it.
            show: print what has changed since, what the run says, and the verdict.

        Raises:
            TunewrightError: for a record that is not whole, or that cannot be trusted or run here.
        """
        from pipeline.api.shown import run_lines
        from pipeline.config.compose import hydra_app
        from pipeline.jobs import rerun
        from pipeline.tracking.verdict import TOLERANCE

        given = [*self._store.options, *as_texts(overrides)]
        with as_guest(show=show, trains=True), hydra_app("rerun") as hydra, run_lines(show=show):
            rebuilt = rerun.rebuild(hydra, self.id, given, [Path(folder) for folder in allow])
            drift = rerun.drift_of(rebuilt)
            tell = say if show else str
            for line in drift:
                tell(line)
            if strict:
                rerun.check_no_drift(drift)
            made = rerun.run_again(hydra, rebuilt).run_id
            if rerun.has_result(rebuilt.record):
                within = TOLERANCE if tolerance is None else tolerance
                tell(rerun.verdict_on(rebuilt.record, rebuilt.store, made, within))
        return Run(rebuilt.store, made)

    def _repr_html_(self) -> str:
        from pipeline.common.tables import Cell, Table
        from pipeline.tracking import tags
        from pipeline.tracking.metrics import metrics_of
        from pipeline.tracking.overview import objectives_of, score_of
        from pipeline.tracking.runs import state_of

        record = self._record
        objective = objectives_of(record)[0]
        score = score_of(self._store, record, objective)
        scores: list[list[Cell]] = [
            [metric, value]
            for metric, value in metrics_of(record).items()
            if metric.startswith(("val/", "test/"))
        ]
        facts = [f"run {self.id}, {state_of(record)}", record.data.tags.get(tags.VERDICT, "")]
        facts += [] if score is None else [f"{objective} = {score:.4f}"]
        return card(record.info.run_name, facts, Table(["metric", "value"], scores))

    @property
    def _record(self) -> Record:
        from pipeline.tracking.logged import find_run

        with as_guest():
            return find_run(self._store, self.id)


def run(run_id: str, overrides: Overrides = ()) -> Run:
    """Open a run by its id in MLflow; overrides say where the store is: ``tracking.dir=…``.

    Raises:
        TrackingError: where there is none.
    """
    from pipeline.jobs.place import store_at

    with as_guest():
        opened = Run(store_at(as_texts(overrides)), run_id)
        _ = opened.state  # refuses one that is not there
        return opened
