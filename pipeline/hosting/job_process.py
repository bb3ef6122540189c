"""A job, carried out in a process of its own: a run of ours, or a small study for ``auto``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.api.experiments import Experiment, compose
from pipeline.api.guest import as_guest, own_process
from pipeline.api.overrides import search_of
from pipeline.common.errors import ConfigError, DataError, amount
from pipeline.config.compose import key_of
from pipeline.hosting.documents import Document, read_lines
from pipeline.hosting.jobs import add_event, say_once
from pipeline.hosting.wire import Hyperparameters
from pipeline.jobs.multirun import multirun
from pipeline.jobs.resume import resume
from pipeline.jobs.single import run_alone
from pipeline.jobs.trial import ExperimentTask
from pipeline.tracking import logged, open_store, tags
from pipeline.tracking.best import find_best
from pipeline.tracking.dead_runs import connect_and_close_dead
from pipeline.tracking.metrics import history, metrics_of
from pipeline.tracking.runs import find_runs, run_of
from pipeline.training.hooks import TrainingHook
from pipeline.training.outcome import ALONE
from pipeline.training.prepare import prepare, splits_of
from pipeline.training.starting_rate import starting_rate

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from pipeline.config.experiment import Experiment as Settings
    from pipeline.tracking import Store
    from pipeline.tracking.runs import Run

_EPOCHS = 3  # that ``auto`` stands for, as in sweeps/quick.yaml
_NAMES = {  # OpenAI's, of our metrics
    "train/loss": "train_loss",
    "val/loss": "full_valid_loss",
    "val/token_accuracy": "full_valid_mean_token_accuracy",
}
_STUDY = ("hydra.sweeper.n_trials=6", "hydra.sweeper.confirm=0", "hydra.sweeper.n_jobs=1")


@dataclass(frozen=True)
class JobSpec:
    """What a job is to do, and where its events go."""

    id: str
    overrides: Sequence[str]  # those of the server first, then the job's data, model and seed
    numbers: Hyperparameters
    events: Path
    most_rows: int

    @property
    def is_study(self) -> bool:
        """Whether something is searched; for the number of epochs alone there is a default."""
        return None in (self.numbers.batch_size, self.numbers.learning_rate_multiplier)

    @property
    def settings(self) -> list[str]:
        """The overrides that the numbers are, but for the learning rate."""
        epochs, batch = self.numbers.n_epochs, self.numbers.batch_size
        found = [f"training.epochs={epochs or _EPOCHS}"]
        return [*found, *([] if batch is None else [f"training.batch_size={batch}"])]


class JobEvents(TrainingHook):
    """Adds the metrics of a run's steps to the events of its job, each once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        # A resumed run repeats the steps since its checkpoint.
        self._told = {_of(event["data"]) for event in read_lines(file)}

    @override
    def on_metrics(self, metrics: dict[str, float], step: int) -> None:
        named = _named(metrics)
        data = {"step": step, **named}
        if named and _of(data) not in self._told:
            parts = (f"{name.replace('_', ' ')}={value:.4f}" for name, value in named.items())
            add_event(self._file, f"Step {step}: {', '.join(parts)}", metrics=data)


def _of(data: Mapping[str, float]) -> tuple[object, ...]:
    """Return which metrics of which step an event tells."""
    return data.get("step"), *sorted(data)


class _JobStudy(ExperimentTask):
    """A study that tells its job of each trial."""

    def __init__(self, name: str, overrides: list[str], file: Path) -> None:
        super().__init__(name, overrides)
        self._file = file

    @override
    def progressed(self, study: optuna.Study, news: Sequence[FrozenTrial]) -> None:
        super().progressed(study, news)
        for trial in news:
            score = "" if trial.value is None else f", loss {trial.value:.4f}"
            say_once(self._file, f"Trial {trial.number}: {trial.state.name.lower()}{score}")


def carry_out(spec: JobSpec) -> Document:
    """Carry out a job, or resume it; return which run has its model, and what that is from.

    Raises:
        TunewrightError: for files, a model or numbers that cannot work.
    """
    with own_process(), as_guest(show=False):
        return _carry_out(spec)


def _carry_out(spec: JobSpec) -> Document:
    overrides = [*spec.overrides, *spec.settings]
    begun = compose(overrides)
    rule = _rule(begun)
    rate = float(begun.settings.optimizer.learning_rate) if rule is None else rule
    multiplier = spec.numbers.learning_rate_multiplier
    if multiplier is not None:
        overrides.append(f"optimizer.learning_rate={multiplier * rate:.6g}")
    experiment = compose(overrides)
    settings = experiment.settings
    _check(experiment, spec.most_rows)
    say_once(spec.events, "Files validated")
    _say_cut(spec, settings)
    store = open_store(settings.tracking)
    connect_and_close_dead(store)
    say_once(spec.events, "Fine-tuning job started")
    if not spec.is_study:
        run = _run(spec, experiment, store)
    else:
        has_optimizer = any(key_of(override) == "optimizer" for override in overrides)
        run = _study(spec, [*([] if rule or has_optimizer else ["optimizer=adamw"]), *overrides])
    return _outcome(store, run, settings, rate)


def _say_cut(spec: JobSpec, settings: Settings) -> None:
    train = prepare(settings, keep=True).examples["train"]
    if train.truncated or train.dropped:
        say_once(
            spec.events,
            f"{train.truncated} of {amount(len(train.rows), 'training row')} are longer than "
            f"{settings.training.max_length} tokens and cut, {train.dropped} are left out",
            level="warn",
        )


def _check(experiment: Experiment, most_rows: int) -> None:
    experiment.check()
    rows = len(splits_of(experiment.settings).train)
    if rows > most_rows:
        raise DataError(
            f"{experiment.settings.data.train}: {amount(rows, 'row')}, more than the {most_rows} "
            "that this server takes."
        )


def _rule(experiment: Experiment) -> float | None:
    """Return the learning rate to begin with, where there is a rule; a multiplier is of it."""
    with suppress(ConfigError):
        return starting_rate(experiment.settings).rate
    return None


def _run(spec: JobSpec, experiment: Experiment, store: Store) -> Run:
    """Train once; where the job was begun before, go on."""
    trial = replace(ALONE, listeners=[JobEvents(spec.events)])
    of_job = find_runs(store, f"tags.`{tags.HOSTED_JOB}` = '{spec.id}'")
    known = [run for run in of_job if logged.is_whole(store, run.info.run_id)]
    if known and known[0].info.status == "FINISHED":
        return known[0]
    task: Callable[..., Any] = partial(run_alone, run_tags={tags.HOSTED_JOB: spec.id})
    if known:
        task = partial(resume, run_id=known[0].info.run_id)
    result = experiment.as_job(partial(task, trial=trial), show=False)
    return run_of(store, result.run_id)


def _study(spec: JobSpec, overrides: Sequence[str]) -> Run:
    """Search what is ``auto`` as sweeps/quick.yaml does; the same job resumes its study."""
    given = [*_STUDY, f"hydra.sweeper.study_name={spec.id}", *overrides]
    with search_of("quick", given) as (name, command):
        task = _JobStudy(name, command, spec.events)
        multirun(name, command, task)
    return find_best(task.store, spec.id)[1]


def _outcome(store: Store, run: Run, settings: Settings, rate: float) -> Document:
    metrics, params = metrics_of(run), run.data.params
    losses = history(store, run.info.run_id, "val/loss")
    epochs, used = int(float(params["training.epochs"])), float(params["optimizer.learning_rate"])
    lengths = prepare(settings).examples["train"].lengths
    return {
        "run_id": run.info.run_id,
        "step": min(losses, key=lambda step: losses[step]),
        "metrics": _named(metrics),
        "trained_tokens": sum(lengths) * epochs,
        "hyperparameters": {
            "n_epochs": epochs,
            "batch_size": int(params["training.batch_size"]),
            "learning_rate_multiplier": float(f"{used / rate:.4g}"),
        },
    }


def _named(metrics: dict[str, float]) -> dict[str, float]:
    known = {_NAMES[name]: value for name, value in metrics.items() if name in _NAMES}
    return {name: value for name, value in known.items() if math.isfinite(value)}
