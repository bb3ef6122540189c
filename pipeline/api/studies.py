"""A search and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.guest import as_guest
from pipeline.api.overrides import Overrides, as_texts, search_of
from pipeline.api.reports import Report, as_frame, card
from pipeline.api.runs import Run
from pipeline.common.errors import ConfigError

if TYPE_CHECKING:
    from os import PathLike

    import optuna
    import pandas as pd

    from pipeline.analysis.winner import WinnerReport
    from pipeline.common.tables import Table
    from pipeline.jobs.multirun import Searched
    from pipeline.jobs.steer import Steered
    from pipeline.tracking import Store
    from pipeline.tracking.runs import Run as Record

SHOWN = 20  # trials in a notebook


@dataclass(frozen=True)
class Study:
    """A study, as it is at the moment; it may still run."""

    name: str
    _store: Store = field(repr=False)
    _given: str | None = field(repr=False)  # Optuna's, where it was given
    _place: Sequence[str] = field(repr=False)  # overrides that lead to both

    @property
    def state(self) -> str:
        """Running, complete, failed, unfinished or killed."""
        from pipeline.tracking.runs import state_of

        return state_of(self._record)

    @property
    def trials(self) -> pd.DataFrame:
        """The trials, best first: varied parameters, score, state, seconds, id of the run."""
        return as_frame(self._table)

    @property
    def best(self) -> Run:
        """The best trial's run, which keeps its model.

        Raises:
            TrackingError: where no trial is complete yet.
        """
        from pipeline.tracking.best import find_best

        with as_guest():
            _, best = find_best(self._store, self.name)
        return Run(self._store, best.info.run_id)

    @property
    def optuna(self) -> optuna.Study:
        """Optuna's study, for its own tools: ``optuna.visualization``, ``trials_dataframe``."""
        from pipeline.search.study.storage import find_study
        from pipeline.tracking.commands import storage_of

        with as_guest():
            return find_study(self.name, storage_of(self._store, self._record, self._given))

    def rerun(self, overrides: Overrides = (), *, show: bool = True) -> Run:
        """Run the best trial again, and check it against its record: ``best.rerun()``.

        The search itself is resumed by the `sweep` that began it.
        """
        return self.best.rerun(overrides, show=show)

    def retry(
        self,
        overrides: Overrides = (),
        *,
        every: bool = False,
        allow: Sequence[str | PathLike[str]] = (),
        show: bool = True,
    ) -> Study:
        """Run the failed trials again, as ``tunewright retry``.

        Args:
            overrides: what replaces the study's own: ``hydra.sweeper.n_jobs=…``.
            every: also those that ran out of memory or time, or diverged.
            allow: folders that the study may name, where somebody else wrote it.
            show: print a line a trial and the result.

        Raises:
            TunewrightError: where none failed, or the study is running.
        """
        from pipeline.jobs.retry import again

        given = [*self._place, *as_texts(overrides)]
        with as_guest(show=show, trains=True):
            folders = list(map(Path, allow))
            found = again(self._store, self.name, self._given, given, folders, every=every)
            found.run()
        return self

    def confirm(
        self,
        seeds: int = 5,
        overrides: Overrides = (),
        *,
        allow: Sequence[str | PathLike[str]] = (),
        show: bool = True,
    ) -> WinnerReport:
        """Train the best config and the default one on fresh seeds, and compare them on test.

        Args:
            seeds: how many; each is two runs, one of either config.
            overrides: what replaces the study's own: ``hydra.sweeper.n_jobs=…``.
            allow: folders that the study may name, where somebody else wrote it.
            show: print a line a run and the verdict.

        Raises:
            TunewrightError: where no trial is complete.
        """
        from pipeline.jobs.multirun import retrain

        given = [*self._place, *as_texts(overrides)]
        with as_guest(show=show, trains=True):
            return retrain(self.name, seeds, given, list(map(Path, allow)))

    def stop(self, *, now: bool = False) -> None:
        """End a search that runs elsewhere, as ``tunewright study NAME stop``.

        Args:
            now: end its running trials too; resuming begins them again.

        Raises:
            ConfigError: where it is not running.
        """
        with as_guest():
            self._steered.stop(now=now)

    def stop_trial(self, number: int) -> None:
        """End a trial that runs elsewhere, as pruned.

        Raises:
            ConfigError: where it is not running.
        """
        with as_guest():
            self._steered.stop_trial(number)

    def add(self, point: Overrides) -> None:
        """Queue a point, whole or in part, to be run next: one trial more than ``n_trials``.

        Raises:
            ConfigError: where it is no point of the space, or was begun before.
        """
        from pipeline.jobs.steer import as_settings

        with as_guest():
            self._steered.add(as_settings(as_texts(point)))

    def report(self) -> Report:
        """Return the study's page: charts, importances, costs, failures; it may still run.

        ``tunewright report`` makes the same, and logs it to MLflow.
        """
        from pipeline.analysis.report import page_of

        study = self.optuna
        with as_guest():
            return Report(self.name, page_of(self._store, study, self._record))

    def _repr_html_(self) -> str:
        from pipeline.tracking import tags

        known, best = self._record.data.tags, ""
        if tags.BEST_RUN in known:
            score = f"{known[tags.OBJECTIVE]} = {known[tags.BEST_SCORE]}"
            best = f"best: trial {known[tags.BEST_TRIAL]}, {score}"
        table = self._table
        more = len(table.rows) - SHOWN
        said = f"{table.note} {more} more are in `trials`." if more > 0 else table.note
        shown = replace(table, rows=table.rows[:SHOWN], note=said)
        return card(self.name, [f"study, {self.state}", best], shown)

    @property
    def _steered(self) -> Steered:
        from pipeline.jobs.steer import Steered

        return Steered.find(self._store, self.name, self._given)

    @property
    def _table(self) -> Table:
        from pipeline.tracking.overview import compare

        with as_guest():
            return compare(self._store, [self.name])

    @property
    def _record(self) -> Record:
        from pipeline.tracking.studies import find_study

        with as_guest():
            return find_study(self._store, self.name)


def study(name: str, overrides: Overrides = ()) -> Study:
    """Open a study by its name, or by how its name begins: then it is the latest one.

    Overrides say where it is recorded: ``tracking.dir=…``, ``hydra.sweeper.storage=…``.

    Raises:
        TrackingError: where there is none, naming the nearest.
    """
    from pipeline.jobs.place import composed, store_of
    from pipeline.tracking import studies, tags

    place = as_texts(overrides)
    with as_guest():
        config = composed(place)
        store = store_of(config)
        full = studies.find_study(store, name).data.tags[tags.STUDY]
        return Study(full, store, config.hydra.sweeper.storage, place)


def sweep(space: str | Overrides, overrides: Overrides = (), *, show: bool = True) -> Study:
    """Search; the same call resumes an unfinished study, and opens a finished one.

    Args:
        space: a name in ``sweeps/``, as ``demo``; or what is searched, by key: a list to choose
            from, or a text as ``"tag(log, interval(1e-5, 1e-3))"``; or overrides as texts.
        overrides: what else is set, options of ``hydra.sweeper`` among it.
        show: print the plan, a line a trial and the result.

    Raises:
        TunewrightError: for what cannot work, before the first trial; where too many failed.
    """
    from pipeline.config.compose import chosen

    refusal = ConfigError(
        "hydra.sweeper.dry_run: a dry run makes no study to return; leave it out, or give "
        "`tunewright plan` for the plan alone."
    )
    given = chosen([*as_texts(overrides), *as_texts(space)])
    if given.get("hydra.sweeper.dry_run", "").strip("'\"").lower() in ("true", "plan"):
        raise refusal
    with as_guest(show=show, trains=True):
        found = search(space, overrides)
    if found is None:  # as a file of the config says
        raise refusal
    return study(*found)


def search(space: str | Overrides, overrides: Overrides) -> Searched | None:
    """Search; or only plan it, which makes no study."""
    from pipeline.jobs.multirun import multirun

    with search_of(space, overrides) as (job, command):
        return multirun(job, command)
