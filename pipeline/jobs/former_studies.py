"""Former studies in MLflow, as far as they say something to a new one of the same kind.

A learning rate carries over between data sets of one model and one way to train it, and hardly
between models. So a former study counts where what `_SAME` names is as here, unless it is searched
here, and so is the direction of its objectives; other data and other settings are welcome. Of its
trials those count that have a value of every key that is searched here, searched or fixed there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pipeline.config.flat import flat, read_params
from pipeline.config.migrations import migrated_params
from pipeline.jobs.prior_runs import params_here
from pipeline.search.searchable import FormerStudy
from pipeline.search.study.failures import TEACHES
from pipeline.search.study.study import StudySpec
from pipeline.tracking import Store, studies, tags
from pipeline.tracking.overview import score_of
from pipeline.tracking.trials import as_logged, trials_of, tries_of

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

MOST_STUDIES = 50  # the latest that count
# Keys, or how keys begin, that say what is trained and how.
_SAME = (
    *("provider.name", "provider.model", "provider.base_url"),
    "model.",
    "task.name",
    "task.approach",
    "adapter.name",
    "optimizer.name",
    "optimizer.scale_with_batch",
)


def former_studies(store: Store, config: DictConfig, spec: StudySpec) -> list[FormerStudy]:
    """Return the former studies of the experiment that count, the latest first.

    A study that runs, or whose process died, counts with what it has. The losses are by its own
    first objective; infinite where a trial was pruned, or failed for its parameters.
    """
    here = spec.space.without(read_params(flat(config)))
    same = {key: str(value) for key, value in here.items() if key.startswith(_SAME)}
    found: list[FormerStudy] = []
    for study in studies.all_studies(store):
        known = study.data.tags
        if len(found) == MOST_STUDIES:
            break
        is_own = known[tags.STUDY] == spec.name
        if is_own or known.get(tags.DIRECTION) != ", ".join(spec.directions):
            continue
        if _fits(migrated_params(study.data.params), same):
            former = _read(store, study, spec, same)
            found += [former] if former.points else []
    return found


def _fits(params: Mapping[str, str], same: Mapping[str, str]) -> bool:
    """Whether nothing that is known of a study or a trial differs in what has to be the same."""
    return all(params.get(key, value) == value for key, value in same.items())


def _read(store: Store, study: Run, spec: StudySpec, same: Mapping[str, str]) -> FormerStudy:
    name = study.data.tags[tags.STUDY]
    goal = study.data.tags.get(tags.OBJECTIVE, "").partition(", ")[0]
    sign = -1.0 if spec.directions[0] == "maximize" else 1.0
    runs = trials_of(store, name)
    logged = {one.run_id: one for one in as_logged(runs, {study.info.run_id: study})}
    numbered = ((r.data.tags[tags.TRIAL], int(r.data.tags.get(tags.REPEAT, 0)), r) for r in runs)
    points = []
    for own, *_ in tries_of(numbered):  # the latest try of each
        first = logged[own[-1].info.run_id]
        params = params_here(first, spec.space) if _fits(first.settings, same) else None
        losses = [_loss(store, run, goal, sign) for run in own]
        if params is not None and None not in losses:
            points.append((params, fmean(loss for loss in losses if loss is not None)))
    return FormerStudy(name, points[::-1])


def _loss(store: Store, run: Run, goal: str, sign: float) -> float | None:
    """Return a trial's loss; None where nothing is known of its parameters, or not yet."""
    state, kind = (run.data.tags.get(tag, "") for tag in (tags.STATE, tags.REASON))
    if state == "pruned" or (state == "failed" and kind.partition(":")[0] in TEACHES):
        return math.inf
    score = score_of(store, run, goal) if state == "complete" else None
    return None if score is None or not math.isfinite(score) else sign * score
