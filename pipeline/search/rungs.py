"""Pause and promote: which trials wait at which rung, and which of them may resume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import optuna
from optuna.trial import FrozenTrial

from pipeline.common.contract import Direction
from pipeline.search.pruners import PauseAndPromote
from pipeline.search.study.trials import PAUSED_AT, standing, state_of


def promotable(
    study: optuna.Study,
    pruner: PauseAndPromote,
    held: Collection[int],
    reported: Direction,
    least: int = 1,
) -> int | None:
    """Return the paused trial to resume next, the one on the highest rung first.

    A trial may resume where it is among the best ``len(rung) // reduction_factor`` of all that
    reached its rung, dead or alive.

    Args:
        study: the study; the rungs are counted over all its workers.
        pruner: where the rungs are.
        held: numbers of the trials that this worker keeps the state of.
        reported: in which direction the scores get better.
        least: how many of a rung may resume however few reached it; 0 while more may come.
    """
    rungs = _rungs(study, pruner, 1.0 if reported == "maximize" else -1.0)
    for rung in sorted(rungs, reverse=True):
        best = sorted(rungs[rung], key=lambda entry: (-entry[0], entry[1].number))
        for _, trial in best[: max(least, len(best) // pruner.reduction_factor)]:
            waits_here = pruner.rung(trial.user_attrs.get(PAUSED_AT) or 0) == rung
            if trial.number in held and state_of(trial) == "paused" and waits_here:
                return trial.number
    return None


def _rungs(
    study: optuna.Study, pruner: PauseAndPromote, sign: float
) -> dict[int, list[tuple[float, FrozenTrial]]]:
    """Return for each rung the trials that reached it, with their scores there; more is better."""
    rungs: dict[int, list[tuple[float, FrozenTrial]]] = defaultdict(list)
    for trial in standing(study):
        if state_of(trial) in ("killed", "failed"):
            continue
        at: dict[int, int] = {}  # rung -> the first step at or above it
        for step in sorted(trial.intermediate_values):
            for rung in range(1, pruner.rung(step) + 1):
                at.setdefault(rung, step)
        for rung, step in at.items():
            rungs[rung].append((sign * trial.intermediate_values[step], trial))
    return rungs
