"""One experiment: composed, looked at, trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING

from pipeline.api.guest import as_guest
from pipeline.api.overrides import Overrides, as_texts
from pipeline.api.reports import Inspection
from pipeline.api.runs import Run

if TYPE_CHECKING:
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
        with as_guest(show=show, trains=True):
            self.check()

            from pipeline.api.shown import run_lines
            from pipeline.config.compose import hydra_app, run_single, without_hydra
            from pipeline.jobs.resume import find_cut_off
            from pipeline.jobs.resume import resume as resumed
            from pipeline.jobs.single import run_alone
            from pipeline.tracking import open_store
            from pipeline.tracking.dead_runs import connect_and_close_dead

            store = open_store(self.settings.tracking)
            connect_and_close_dead(store)
            found = find_cut_off(store, without_hydra(self._config)) if resume else None
            task = partial(resumed, run_id=found) if found else run_alone
            with hydra_app("train") as hydra, run_lines(show=show):
                result: Result = run_single(hydra, self._config.copy(), task)
            return result

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
    from pipeline.config.compose import compose as composed
    from pipeline.config.compose import hydra_app, without_hydra
    from pipeline.config.experiment import validate

    texts = as_texts(overrides)
    with as_guest(), hydra_app("train") as hydra:
        config = composed(hydra, texts)
        return Experiment(tuple(texts), validate(without_hydra(config)), config)


def train(overrides: Overrides = (), *, resume: bool = False, show: bool = True) -> Run:
    """Compose an experiment and train it: `compose` and `Experiment.train` in one."""
    with as_guest(show=show, trains=True):
        return compose(overrides).train(resume=resume, show=show)
