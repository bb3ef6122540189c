"""First points of a new study that former studies recommend; chosen once, and kept with it."""

from collections.abc import Callable, Sequence
from typing import Any

import optuna

from pipeline.common.errors import amount, listing
from pipeline.search.searchable import FormerStudy
from pipeline.search.space.dimension import Params, encode
from pipeline.search.study.portfolio import Chosen, Scored, coordinates, portfolio
from pipeline.search.study.study import StudySpec

HISTORY = "history"  # user attribute of a study: what former studies recommended, and how many
DEFAULT_POINTS = 3  # but at most a third of n_trials
_SHOWN = 3  # studies named with a point


def recommended(
    study: optuna.Study, spec: StudySpec, former: Callable[[], Sequence[FormerStudy]]
) -> tuple[tuple[tuple[Params, str], ...], list[str]]:
    """Return the first points that former studies recommend, if the spec asks for some.

    Returns:
        Each point with where it comes from, and what to say of them all.
    """
    if spec.space.history is None:
        return (), []
    known = study.user_attrs.get(HISTORY)
    if known is None:
        known = _chosen(spec, former())
        study.set_user_attr(HISTORY, known)
    points = [(dict(params), str(source)) for params, source in known["points"]]
    if not points:
        return (), [
            "history: no former study here of this model, task, adapter, optimizer and direction "
            "has values of these keys; the search begins without."
        ]
    studies = "1 former study" if known["studies"] == 1 else f"{known['studies']} former studies"
    lines = [f"history: {amount(len(points), 'point')} of {studies} first"]
    for params, source in points:
        settings = spec.space.settings(params).items()
        shown = ", ".join(f"{key}={encode(value)}" for key, value in settings)
        lines.append(f"  {shown}: {source}")
    return tuple(points), lines


def _chosen(spec: StudySpec, former: Sequence[FormerStudy]) -> dict[str, Any]:
    """Return the points to begin with, each with where it comes from, as the study keeps them."""
    space = spec.space
    scored = [[Scored(coordinates(space, p), loss) for p, loss in one.points] for one in former]
    most = space.history or min(DEFAULT_POINTS, max(1, spec.budget.n_trials // 3))
    chosen = portfolio(scored, most)
    points = [(former[c.study].points[c.point][0], _source(c, former)) for c in chosen]
    return {"studies": len(former), "points": points}


def _source(chosen: Chosen, former: Sequence[FormerStudy]) -> str:
    """Say which studies a point serves, the best served first."""
    ranks = sorted(chosen.ranks.items(), key=lambda pair: pair[1])
    return listing((f"{_ordinal(rank)} of {former[i].name}" for i, rank in ranks), most=_SHOWN)


def _ordinal(rank: int) -> str:
    if rank == 1:
        return "best"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(rank % 10 if rank % 100 not in (11, 12, 13) else 0)
    return f"{rank}{ending or 'th'}"
