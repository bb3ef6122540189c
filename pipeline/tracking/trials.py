"""The trials of studies in MLflow: a run each, or several with the seeds of a trial."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.config.compose import chosen
from pipeline.config.flags import split_flags
from pipeline.config.flat import AUTO, RATE
from pipeline.config.migrations import migrated_overrides, migrated_params
from pipeline.tracking import tags
from pipeline.tracking.metrics import metrics_of
from pipeline.tracking.runs import LATEST, find_runs, own_runs, quoted
from pipeline.tracking.store import Store
from pipeline.tracking.studies import DATA, all_studies, find_study

if TYPE_CHECKING:
    from mlflow.entities import Run

AnyRun = TypeVar("AnyRun")


def trials_of(
    store: Store,
    study: str,
    condition: str = "",
    order: Sequence[str] = LATEST,
    most: float = math.inf,
) -> list[Run]:
    """Return the runs of a study's trials, the latest first; just asking makes no store."""
    own = [f"tags.`{tags.STUDY}` = '{quoted(study)}'", f"tags.`{tags.KIND}` = 'trial'"]
    every = " and ".join([*own, condition] if condition else own)
    return [] if store.is_empty else find_runs(store, every, order=order, most=most)


def close_trial(store: Store, run_id: str, state: str, reason: str = "") -> None:
    """Close a trial's run as its study has it: complete, pruned or failed."""
    store.client.set_tag(run_id, tags.STATE, state)
    if reason:
        store.client.set_tag(run_id, tags.REASON, reason[: tags.MOST_CHARACTERS])
    status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[state]
    store.client.set_terminated(run_id, status)


@dataclass(frozen=True)
class LoggedTrial:
    """A trial, or a run on its own, as it was logged."""

    run_id: str
    complete: bool
    settings: Mapping[str, str]  # its parameters, and what its command line chose of groups
    overrides: Sequence[str]  # its command line
    metrics: Mapping[str, float]  # the latest value of each
    data: str | None  # digest of its data, where its study's record has one
    point: tuple[str, str] | None  # its study and trial; None: a run on its own
    repeat: int | None  # which of the trial's seeds it had, from 0; None where that has one
    repeats: int  # how many seeds the trials of its study have
    has_auto_rate: bool = False  # whether `optimizer.learning_rate=auto` made its learning rate


def logged_trials(store: Store, source: str) -> list[LoggedTrial]:
    """Return the trials of a study, or with ``*`` all trials and runs, the latest first.

    Raises:
        TrackingError: where there is no such study.
    """
    if source == "*":
        trials = [] if store.is_empty else find_runs(store, f"tags.`{tags.KIND}` = 'trial'")
        runs = [*trials, *own_runs(store)]
    else:
        runs = trials_of(store, find_study(store, source).data.tags[tags.STUDY])
    return as_logged(runs, {study.info.run_id: study for study in all_studies(store)})


def as_logged(runs: Sequence[Run], parents: Mapping[str, Run]) -> list[LoggedTrial]:
    """Return trials, or runs on their own, as they were logged; with the parents of some by id."""
    of_study: dict[str | None, list[Run]] = defaultdict(list)
    for run in runs:
        of_study[run.data.tags.get(tags.STUDY)].append(run)
    found = []
    for run in runs:
        known = run.data.tags
        _, said = split_flags(json.loads(known.get(tags.OVERRIDES, "[]")))
        overrides = migrated_overrides(said)
        parent = parents.get(known.get("mlflow.parentRunId"))
        found.append(
            LoggedTrial(
                run.info.run_id,
                known.get(tags.STATE) == "complete",
                {**chosen(overrides), **migrated_params(run.data.params)},
                overrides,
                metrics_of(run),
                parent.data.params.get(DATA) if parent else None,
                (known[tags.STUDY], known[tags.TRIAL]) if tags.TRIAL in known else None,
                int(known[tags.REPEAT]) if tags.REPEAT in known else None,
                repeats_of(parent, of_study[known.get(tags.STUDY)]),
                has_auto_rate(known),
            )
        )
    return found


def has_auto_rate(run_tags: Mapping[str, str]) -> bool:
    """Whether ``optimizer.learning_rate=auto`` made a run's learning rate."""
    return run_tags.get(tags.LEARNING_RATE, "").startswith(f"{RATE}={AUTO}")


def repeats_of(study: Run | None, trials: Iterable[Run]) -> int:
    """Return how many seeds each trial of a study has: by its record, or else by its trials."""
    noted = json.loads(study.data.tags.get(tags.LIMITS, "{}")) if study else {}
    return noted.get("repeats") or 1 + max(
        (int(run.data.tags.get(tags.REPEAT, 0)) for run in trials), default=0
    )


def tries_of(runs: Iterable[tuple[Hashable, int, AnyRun]]) -> list[list[list[AnyRun]]]:
    """Return the runs of each trial by its tries, the latest first, its last seed's run first.

    A trial's number may have been that of an earlier one: where the study's folder was deleted and
    its search was given again.

    Args:
        runs: the trial of each, which of its seeds it had, and the run; the latest first.
    """
    tries: dict[Hashable, list[list[AnyRun]]] = defaultdict(list)
    reached: dict[Hashable, int] = {}
    for trial, repeat, run in runs:
        if repeat >= reached.get(trial, 0):  # not before the seed that came after it
            tries[trial].append([])
        tries[trial][-1].append(run)
        reached[trial] = repeat
    return list(tries.values())
