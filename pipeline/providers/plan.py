"""What a hosted run is going to do: checked and priced, before anything of the rows is sent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.session import session
from pipeline.config.provider import HostedConfig
from pipeline.evaluation.names import reply_metrics
from pipeline.providers.money import Forecast, dollars, forecast
from pipeline.providers.rows import SentFile, sent_files
from pipeline.providers.service import HostedService, service_of
from pipeline.tasks.chat import ChatConfig
from pipeline.tasks.objective import constraints, objectives
from pipeline.training.prepare import splits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.experiment import Experiment
    from pipeline.data import Splits


@dataclass(frozen=True)
class Plan:
    """A hosted run before it begins."""

    config: HostedConfig
    task: ChatConfig
    service: HostedService
    splits: Splits
    cost: Forecast

    @cached_property
    def files(self) -> Mapping[str, SentFile]:
        """What the service gets, by split; raises as `sent_files`."""
        return sent_files(self.splits, self.service.layout)

    def check_model(self) -> None:
        """Refuse a key or a model that the service does not take; it is asked once a process."""
        session().kept(("service", self.config.place, self.config.model), self.service.check)


def plan(experiment: Experiment) -> Plan:
    """Check what can be checked here, and forecast the cost.

    Raises:
        ConfigError: for a task, a metric or a setting that a service cannot serve, a price that is
            not known, or a forecast beyond ``provider.max_usd``.
        DataError: for rows that cannot be read or split.
    """
    config, task = experiment.hosted, experiment.task
    assert config is not None  # who calls this knows
    if not isinstance(task, ChatConfig) or not task.generate:
        given = f"task={task.name}" if not isinstance(task, ChatConfig) else "task.generate=false"
        raise ConfigError(
            f"{given}: provider={config.name} tunes models that chat, and judges them by the "
            "replies that they write; expected task=chat with task.generate=true."
        )
    _check_evaluation(experiment, config, task)
    service, splits = service_of(config), splits_of(experiment)
    cost = forecast(config, splits, service.tokenizer, task.generation.max_new_tokens)
    if config.max_usd is not None and cost.usd > config.max_usd:
        raise ConfigError(
            f"provider.max_usd={config.max_usd:g}: this run is forecast to cost {cost}; expected "
            "fewer rows or epochs, or a higher limit."
        )
    return Plan(config, task, service, splits, cost)


def check_hosted(experiment: Experiment) -> str:
    """Refuse what cannot work, the service asked for its model; return a digest of the rows.

    Raises:
        TunewrightError: as `plan` does, for rows that cannot be sent, and where the service refuses
            the key or the model.
    """
    planned = plan(experiment)
    rows = planned.splits.digest
    session().kept(("rows sent", rows, planned.service.layout), lambda: len(planned.files))
    planned.check_model()
    return rows


@dataclass(frozen=True)
class Priced:
    """What the trials of a search that one service trains are forecast to cost, a run each."""

    model: str  # and its provider
    low: Forecast
    high: Forecast

    def line(self, seeds: int, trials: int) -> str:
        """Return it as text, for trials of so many runs."""
        low, high = (dollars(seeds * one.usd) for one in (self.low, self.high))
        cost = high if low == high else f"{low} to {high}"
        runs = f" for {seeds} runs" if seeds > 1 else ""
        every = dollars(seeds * trials * self.high.usd)
        return (
            f"  provider={self.model}: a trial costs about {cost}{runs}, {trials} trials up to "
            f"{every}; a run up to {self.high.tokens}"
        )


def priced(experiments: Sequence[Experiment]) -> list[Priced]:
    """Return what those cost that services train."""
    costs: dict[str, list[Forecast]] = {}
    for planned in [plan(experiment) for experiment in experiments if experiment.hosted]:
        name = f"{planned.config.name}, {planned.config.model}"
        costs.setdefault(name, []).append(planned.cost)
    ends = ((name, sorted(found, key=lambda cost: cost.usd)) for name, found in costs.items())
    return [Priced(name, found[0], found[-1]) for name, found in ends]


def _check_evaluation(experiment: Experiment, config: HostedConfig, task: ChatConfig) -> None:
    asked = experiment.evaluation
    for key in ("slices", "counterfactual", "early_rows"):
        if value := getattr(asked, key):
            raise ConfigError(
                f"evaluation.{key}={value}: it is not computed where provider={config.name} "
                "trains; expected null."
            )
    _check_generation(config, task)
    known = [f"val/{name}" for name in reply_metrics(task.language)]
    for metric in [
        *(goal.metric for goal in objectives(experiment)),
        *(limit.metric for limit in constraints(experiment)),
    ]:
        if metric not in known:
            raise ConfigError(
                f"evaluation.objective={metric}: a service's model gives replies and no losses; "
                f"expected a metric of replies, task.objective=val/rougeL."
                f"{did_you_mean(metric, known)} Valid: {listing(known)}."
            )


def _check_generation(config: HostedConfig, task: ChatConfig) -> None:
    """Refuse what a service cannot be told, so that it would have no effect."""
    how = task.generation
    told = {
        "task.chat_template": (task.chat_template, None),
        "task.long_rows": (task.long_rows, "truncate"),
        "task.generation.num_beams": (how.num_beams, 1),
        "task.generation.repetition_penalty": (how.repetition_penalty, 1.0),
        "task.generation.no_repeat_ngram_size": (how.no_repeat_ngram_size, 0),
        "task.generation.length_penalty": (how.length_penalty, 1.0),
    }
    for key, (value, neutral) in told.items():
        if value != neutral:
            raise ConfigError(
                f"{key}={value}: provider={config.name} has no such setting; expected "
                f"{'null' if neutral is None else neutral}."
            )
