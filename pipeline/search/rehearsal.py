"""A dry run: what a search would run, asked for and checked, but not run."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.storages import InMemoryStorage

from pipeline.search.liveness import Heart
from pipeline.search.space import Params
from pipeline.search.study import StudySpec, claim, queue_first

FIRST = 5  # jobs of a sampler, which are checked: the later ones depend on scores


def rehearse(
    spec: StudySpec,
    check: Callable[[Params], None],
    learn: Callable[[optuna.Study], list[str]],
) -> tuple[list[Params], list[str]]:
    """Check every job of a grid, or the first ones of a sampler.

    Args:
        spec: the search's; its storage is not touched.
        check: composes a point's config and refuses what cannot run.
        learn: tells earlier studies' trials to a study, and says so.

    Returns:
        The points, in the order in which they would be run, and what ``learn`` said.

    Raises:
        ConfigError: for the first point that cannot run.
    """
    study = spec.open(InMemoryStorage())
    said = learn(study)
    if spec.is_grid:
        points = list(spec.points())
    else:
        queue_first(study, spec)
        heart = Heart(study)
        asked = (claim(study, spec, heart) for _ in range(min(FIRST, spec.budget.n_trials)))
        points = [trial.params for trial in asked if trial is not None]
    for point in points:
        check(point)
    return points, said
