"""A study's result: its best trial, as text."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from pipeline.common.errors import TrackingError, at
from pipeline.common.secrets import masked_override
from pipeline.config.compose import as_run, chosen, left_open
from pipeline.config.migrations import migrated_overrides
from pipeline.tracking import tags
from pipeline.tracking.kept_models import has_model, place_of
from pipeline.tracking.location import local_path
from pipeline.tracking.logged import find_run
from pipeline.tracking.overview import goals_of, scores_of
from pipeline.tracking.store import Store
from pipeline.tracking.studies import find_study, searched_keys
from pipeline.tracking.trials import has_auto_rate, repeats_of, trials_of

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run


def find_best(store: Store, name: str) -> tuple[Run, Run]:
    """Return a study's parent run and the run of its best trial.

    Raises:
        TrackingError: where there is no such study, or no trial of it is complete.
    """
    study = find_study(store, name)
    known = study.data.tags
    if tags.BEST_RUN not in known:
        raise TrackingError(f"{known[tags.STUDY]}: no trial of it is complete yet.")
    with at(f"{known[tags.STUDY]}, its best trial's run"):
        return study, find_run(store, known[tags.BEST_RUN])


def best_lines(store: Store, name: str) -> list[str]:
    """Return the best trial's score, parameters, run, model and command line, a line each.

    Raises:
        TrackingError: as `find_best` does.
    """
    study, best = find_best(store, name)
    known = study.data.tags
    objective, score = known[tags.OBJECTIVE], known.get(tags.BEST_SCORE, "not recorded")
    # A run that a changed space or a fork took over has the number of its first trial.
    number = known.get(tags.BEST_TRIAL, best.data.tags[tags.TRIAL])
    overrides = store.instead(migrated_overrides(json.loads(best.data.tags[tags.OVERRIDES])))
    values = {**chosen(overrides), **best.data.params}  # not each choice of a group is logged
    params = [(key, values[key]) for key in searched_keys(study) if key in values]
    keys = left_open(by_rule=has_auto_rate(best.data.tags))
    decided = {key: best.data.params[key] for key in keys if key in best.data.params}
    again = [masked_override(override) for override in as_run(overrides, decided)]
    front = known.get(tags.FRONT)
    return [
        f"study      {known[tags.STUDY]} ({known[tags.STATE]})",
        f"best       trial {number}",
        f"score      {objective} = {score}",
        *_seeds(store, study, best),
        *(f"           {key} = {value}" for key, value in params),
        *([f"front      {_front(front)}"] if front else []),
        f"run        {best.info.run_id}",
        f"model      {_model(store, study, best)}",
        f"run again  tunewright train {shlex.join(again)}",
    ]


def _seeds(store: Store, study: Run, best: Run) -> list[str]:
    """Say of a score over several seeds that the run and its command are those of one of them."""
    if tags.REPEAT not in best.data.tags:
        return []
    own = scores_of(store, best, goals_of([study]))
    seeds = repeats_of(study, trials_of(store, study.data.tags[tags.STUDY]))
    shown = ", ".join("none" if score is None else f"{score:.4f}" for score in own)
    return [
        f"           the mean over {seeds} seeds; run, model and command are those of "
        f"seed {best.data.params['seed']}, which scored {shown}"
    ]


def _front(numbers: str) -> str:
    """Return which trials are on the Pareto front."""
    which = f"trials {numbers}" if "," in numbers else f"trial {numbers}"
    return f"{which}: no other trial is better in one objective and as good in the others"


def _model(store: Store, study: Run, best: Run) -> str:
    """Return where the best trial's model is, or the one that the study keeps instead."""
    if tags.TUNED_MODEL in best.data.tags:
        return f"{best.data.tags[tags.TUNED_MODEL]}, at the service that tuned it"
    if has_model(store, best):
        return _path(best)
    kept = study.data.tags.get(tags.MODEL_RUN)
    previous = store.client.get_run(kept) if kept else None
    if previous is None or not has_model(store, previous):
        return "not kept"
    trial = previous.data.tags[tags.TRIAL]
    return f"not kept; the previous best trial's, {trial}, is in {_path(previous)}"


def _path(run: Run) -> str:
    return local_path(place_of(run))
