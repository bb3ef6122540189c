"""What a study found: its best trial, in words."""

import json
import shlex

from pipeline.tracking import tags
from pipeline.tracking.store import Store
from pipeline.tracking.studies import best_trial, find_study, model_path


def best_lines(store: Store, name: str) -> list[str]:
    """Return the best trial's score, parameters, run, model and command line, a line each.

    Raises:
        TrackingError: where there is no such study, or no trial of it is complete.
    """
    study = find_study(store, name)
    best = best_trial(store, study)
    objective = study.data.tags[tags.OBJECTIVE]
    searched = [k.removeprefix("search.") for k in study.data.params if k.startswith("search.")]
    overrides = json.loads(best.data.tags[tags.OVERRIDES])
    model = model_path(store, best)
    return [
        f"study      {study.data.tags[tags.STUDY]} ({study.data.tags[tags.STATE]})",
        f"best       trial {best.data.tags[tags.TRIAL]}",
        f"score      {objective} = {study.data.tags[tags.BEST_SCORE]}",
        *(f"           {k} = {best.data.params[k]}" for k in searched if k in best.data.params),
        f"run        {best.info.run_id}",
        f"model      {model or 'not kept'}",
        f"run again  tunewright train {shlex.join(overrides)}",
    ]
