"""A study's result: its best trial, as text."""

import json
import shlex

from pipeline.config.compose import as_run
from pipeline.config.flat import OPEN
from pipeline.config.migrations import migrated_overrides
from pipeline.tracking import tags
from pipeline.tracking.store import Store
from pipeline.tracking.studies import (
    best_trial,
    find_study,
    model_path,
    searched_keys,
    stand_in,
)


def best_lines(store: Store, name: str) -> list[str]:
    """Return the best trial's score, parameters, run, model and command line, a line each.

    Raises:
        TrackingError: where there is no such study, or no trial of it is complete.
    """
    study = find_study(store, name)
    best = best_trial(store, study)
    known = study.data.tags
    objective, score = known[tags.OBJECTIVE], known.get(tags.BEST_SCORE, "not recorded")
    # A run that a changed space or a fork took over has the number of its first trial.
    number = known.get(tags.BEST_TRIAL, best.data.tags[tags.TRIAL])
    params = [(k, best.data.params[k]) for k in searched_keys(study) if k in best.data.params]
    overrides = migrated_overrides(json.loads(best.data.tags[tags.OVERRIDES]))
    decided = {key: best.data.params[key] for key in OPEN if key in best.data.params}
    model = model_path(store, best)
    previous = stand_in(store, study) if model is None else None
    if previous is not None and (other := model_path(store, previous)):
        trial = previous.data.tags[tags.TRIAL]
        model = f"not kept; the previous best trial's, {trial}, is in {other}"
    return [
        f"study      {known[tags.STUDY]} ({known[tags.STATE]})",
        f"best       trial {number}",
        f"score      {objective} = {score}",
        *(f"           {key} = {value}" for key, value in params),
        f"run        {best.info.run_id}",
        f"model      {model or 'not kept'}",
        f"run again  tunewright train {shlex.join(as_run(overrides, decided))}",
    ]
