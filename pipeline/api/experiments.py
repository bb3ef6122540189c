"""One experiment: composed, looked at, trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING

from pipeline.api.guest import as_guest
from pipeline.api.overrides import Overrides, as_texts
from pipeline.api.reports import Inspection
from pipeline.api.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf import DictConfig

    from pipeline.config.experiment import Experiment as Settings
    from pipeline.training.outcome import Result


@dataclass(frozen=True)
class Experiment:
    """All that can change a run's result; shown as YAML."""

    overrides: tuple[str, ...]
    settings: Settings  # typed: settings.optimizer.learning_rate
    _config: DictConfig = field(repr=False, compare=False)  # with Hydra's own node

    def check(self) -> None:
        """Refuse what cannot be trained: a setting, a file, a label, a model; nothing is recorded.

        Raises:
            TunewrightError: naming the place, what was found and what was expected.
        """
        from pipeline.analysis.preflight import check_inputs, check_settings

        with as_guest():
            check_settings(self.settings)
            check_inputs(self.settings)

    def inspect(self) -> Inspection:
        """Look at every row of every split, and say what is wrong or odd, as ``tunewright check``.

        Raises:
            TunewrightError: for settings that no rows could fit; faults of rows are findings.
        """
        from pipeline.analysis.data_check import inspect_data
        from pipeline.analysis.report import check_page

        with as_guest():
            found = inspect_data(self.settings)
            title = self.settings.data.title
            return Inspection(title, check_page(found, title), found)

    def train(self, *, resume: bool = False, show: bool = True) -> Run:
        """Fine-tune once and record it in MLflow.

        Args:
            resume: the interrupted run of this very experiment, if there is one.
            show: print what the run says while it lasts, a line an evaluation.

        Raises:
            TunewrightError: as `check` does; also for losses that are not finite.
        """
        from pipeline.tracking import open_store

        result = self.carry_out(resume=resume, show=show)
        return Run(open_store(self.settings.tracking), result.run_id)

    def carry_out(self, *, resume: bool = False, show: bool = True) -> Result:
        """Train, and return what is in memory of it: `train` reads the record."""
        from pipeline.analysis.preflight import check_inputs, check_settings
        from pipeline.common.process import without_gc
        from pipeline.tracking import open_store

        with as_guest(show=show, trains=True):
            with without_gc(freezes=True):
                check_settings(self.settings)
                store = open_store(self.settings.tracking)
                if "torch" not in sys.modules:  # to import it takes as long
                    store.make_tables_ahead(beside=True)
                check_inputs(self.settings)

                from pipeline.config.compose import without_hydra
                from pipeline.jobs.resume import check_no_job
                from pipeline.jobs.single import run_alone
                from pipeline.tracking.dead_runs import connect_and_close_dead

                connect_and_close_dead(store)
                if self.settings.hosted and not resume:
                    check_no_job(store, without_hydra(self._config))
                task = (self._cut_off() if resume else None) or run_alone
            return self.as_job(task, show=show)

    def as_job(self, task: Callable[[DictConfig], Result], *, show: bool = True) -> Result:
        """Have a task run as a Hydra job with this config; nothing is checked before."""
        from pipeline.api.shown import run_lines
        from pipeline.config.compose import hydra_app, run_single

        with hydra_app("train") as hydra, run_lines(show=show):
            result: Result = run_single(hydra, self._config.copy(), task)
            return result

    def _cut_off(self) -> Callable[..., Result] | None:
        """Return what resumes this very experiment's interrupted run, if there is one."""
        from pipeline.config.compose import without_hydra
        from pipeline.jobs.resume import find_cut_off, resume
        from pipeline.tracking import open_store

        found = find_cut_off(open_store(self.settings.tracking), without_hydra(self._config))
        return partial(resume, run_id=found) if found else None

    def __str__(self) -> str:
        """Return the config as YAML."""
        from omegaconf import OmegaConf

        from pipeline.config.compose import without_hydra

        return OmegaConf.to_yaml(without_hydra(self._config))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def compose(overrides: Overrides = ()) -> Experiment:
    """Compose an experiment; neither data nor model are read.

    >>> experiment = compose(["optimizer=sgd", "training.epochs=2"])
    >>> experiment.settings.optimizer.name
    'SGD'
    >>> experiment == compose({"optimizer": "sgd", "training.epochs": 2})
    True

    Raises:
        TunewrightError: for a key, an option or a value that cannot be, naming the nearest.
    """
    from pipeline.common.process import without_gc
    from pipeline.config.compose import compose as composed
    from pipeline.config.compose import hydra_app, without_hydra
    from pipeline.config.experiment import validate

    texts = as_texts(overrides)
    with as_guest(), without_gc(), hydra_app("train") as hydra:
        config = composed(hydra, texts)
        return Experiment(tuple(texts), validate(without_hydra(config)), config)


def train(overrides: Overrides = (), *, resume: bool = False, show: bool = True) -> Run:
    """Compose an experiment and train it: `compose` and `Experiment.train` in one."""
    with as_guest(show=show, trains=True):
        return compose(overrides).train(resume=resume, show=show)
