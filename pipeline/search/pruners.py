"""Pruners by name: which running trials are not worth continuing.

A trial reports its score at points of its budget. What one unit of budget is, the function under
search says (an epoch, for our runs); pruners count whole steps, so options in units are converted.
Trials are compared at equal budget, and a schedule is always that of the full one.
"""

import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from pipeline.common.contract import Direction
from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.search.arguments import check_arguments
from pipeline.search.study.trials import PAUSED_AT, STOP, in_force, state_of

# Options that count budget; the others count trials, evaluations or scores.
# The least that Optuna takes: a plain function's unit may be larger than a default of 0.25.
_IN_UNITS = {"n_warmup_steps": 0, "interval_steps": 1, "min_resource": 1, "max_resource": 1}
MOST_UNITS = 10**9


@dataclass(frozen=True)
class PauseAndPromote:
    """Successive halving in which losers wait instead of dying.

    A trial stops at each rung (``min_resource``, then ``reduction_factor`` times that, and so on)
    and keeps its state. When no new configuration is left to begin, the best of a rung resume from
    where they stopped: of n trials that reached a rung, n // ``reduction_factor``. Unlike in the
    asynchronous halving that kills (Li et al., 2018, arXiv 1810.05934), an early trial does not get
    through for want of rivals, and a late one is not lost for meeting many.

    With ``eager`` the best of a rung so far resume before new ones begin; the first trial, the
    yardstick, at once. Complete trials come sooner, some of which would have waited to the end.
    """

    min_resource: int
    reduction_factor: int = 3
    eager: bool = False

    def __post_init__(self) -> None:
        if self.min_resource < 1:
            raise ValueError(f"min_resource={self.min_resource}: expected a number above 0")
        if self.reduction_factor < 2:
            raise ValueError(
                f"reduction_factor={self.reduction_factor}: expected a whole number from 2"
            )

    def rung(self, step: int) -> int:
        """Return how many rungs lie at or below a step."""
        passed, height = 0, self.min_resource
        while height <= step:
            passed, height = passed + 1, height * self.reduction_factor
        return passed


Pruner = BasePruner | PauseAndPromote


def pruner_name(options: Mapping[str, Any]) -> str:
    """Return the class that a pruner's config asks for."""
    return _target(options).rpartition(".")[2]


def _target(options: Mapping[str, Any]) -> str:
    return str(options.get("_target_", "optuna.pruners.NopPruner"))


def make_pruner(options: Mapping[str, Any], unit: int) -> Pruner:
    """Make a study's pruner from its config.

    Args:
        options: ``_target_``, the class by its dotted path, and its options.
        unit: steps that one unit of budget has.

    Raises:
        ConfigError: for a class that is no pruner, or an option that it does not have or take.
    """
    target, name = _target(options), pruner_name(options)
    classes: dict[str, Any] = {
        n: getattr(optuna.pruners, n)
        for n in optuna.pruners.__all__
        if n.endswith("Pruner") and n != "BasePruner"
    } | {"PauseAndPromote": PauseAndPromote}
    if name not in classes or target not in (f"optuna.pruners.{name}", f"{__name__}.{name}"):
        raise ConfigError(
            f"hydra.sweeper.pruner._target_={target}: there is no such pruner."
            f"{did_you_mean(name, classes)} Valid: {listing(classes, most=20)}."
        )
    given = {k: v for k, v in options.items() if not k.startswith("_") and k != "metric"}
    for option, least in _IN_UNITS.items():
        value = given.get(option)
        if value is None or value == "auto":
            continue
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
        if not number >= 0 or (least and number == 0):  # nan is neither
            raise ConfigError(
                f"hydra.sweeper.pruner.{option}={value}: expected a number "
                f"{'above' if least else 'from'} 0, in what trials report: epochs for our own."
            )
        given[option] = max(least, round(min(number, MOST_UNITS) * unit))
    if isinstance(given.get("wrapped_pruner"), Mapping):
        given["wrapped_pruner"] = make_pruner(given["wrapped_pruner"], unit)
    check_arguments("hydra.sweeper.pruner", classes[name], given, also=["metric"], most=2**31)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            pruner: Pruner = classes[name](**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hydra.sweeper.pruner: {name}: {error}.") from error
    return pruner


def promotable(
    study: optuna.Study,
    pruner: PauseAndPromote,
    held: Collection[int],
    reported: Direction,
) -> int | None:
    """Return the paused trial to resume next, the one on the highest rung first.

    A trial may resume where this worker holds its state, and it is among the best
    ``len(rung) // reduction_factor`` of all that reached its rung in any worker, dead or alive; one
    of them at least.
    """
    rungs = _rungs(study, pruner, 1.0 if reported == "maximize" else -1.0)
    for rung in sorted(rungs, reverse=True):
        best = sorted(rungs[rung], key=lambda entry: (-entry[0], entry[1].number))
        for _, trial in best[: max(1, len(best) // pruner.reduction_factor)]:
            waits_here = pruner.rung(trial.user_attrs.get(PAUSED_AT) or 0) == rung
            if trial.number in held and state_of(trial) == "paused" and waits_here:
                return trial.number
    return None


def _rungs(
    study: optuna.Study, pruner: PauseAndPromote, sign: float
) -> dict[int, list[tuple[float, FrozenTrial]]]:
    """Return for each rung the trials that reached it, with their scores there; more is better."""
    rungs: dict[int, list[tuple[float, FrozenTrial]]] = defaultdict(list)
    for trial in in_force(study):
        if state_of(trial) in ("killed", "failed") or STOP in trial.user_attrs:
            continue
        at: dict[int, int] = {}  # rung -> the first step at or above it
        for step in sorted(trial.intermediate_values):
            for rung in range(1, pruner.rung(step) + 1):
                at.setdefault(rung, step)
        for rung, step in at.items():
            rungs[rung].append((sign * trial.intermediate_values[step], trial))
    return rungs
