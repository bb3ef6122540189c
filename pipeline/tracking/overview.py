"""Tables of what MLflow has: the trials of studies side by side, and all runs of an experiment."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pipeline.common.contract import Direction
from pipeline.common.errors import ConfigError, TrackingError
from pipeline.common.tables import Cell, Table
from pipeline.common.text import cut, printable
from pipeline.config.flat import settings
from pipeline.config.migrations import migrated_params
from pipeline.tasks.objective import SECONDS, Objective, parse
from pipeline.tracking import tags
from pipeline.tracking.metrics import NEW_BEST, OLD_BEST, history, metrics_of
from pipeline.tracking.record import RUN_SECONDS
from pipeline.tracking.runs import find_runs, is_deleted, quoted, seek_run, state_of
from pipeline.tracking.store import Store
from pipeline.tracking.studies import DATA, all_studies, find_study, searched_keys
from pipeline.tracking.trials import repeats_of, trials_of, tries_of

if TYPE_CHECKING:
    from mlflow.entities import Run

    _Scored = tuple[Run, list[float | None]]

MOST_CHARACTERS = 2000  # of a filter
EXAMPLE = "\"metrics.`val/f1_macro` > 0.6 and params.`training.batch_size` = '16'\""
_STANDING = {"complete": 0, "pruned": 1, "failed": 3, "killed": 3}  # 2: those that may still end
# A filter, unless a study's name begins so.
_COMPARES = re.compile(r"""[=<>(]|[\s`"](?:I?LIKE|IN|IS)[\s'"]""", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,25})?(?:[eE][-+]?[0-9]{1,3})?")


def compare(store: Store, names: Sequence[str], limit: int | None = None) -> Table:
    """Return the trials of studies: the complete ones first, of these the best first.

    Of the parameters there are those that have more than one value in the trials shown, and the
    searched ones where others are left out. The runs of a trial with several seeds follow each
    other, each with its own scores and the trial's means. A name may be the beginning of a study's.

    Args:
        store: where the studies are.
        names: of the studies.
        limit: how many trials are listed at most; None: all.

    Raises:
        ConfigError: for a limit below 1.
        TrackingError: where there is no such study, or the studies have not the same objectives.
    """
    if limit is not None:
        _check_limit(limit)
    store.check_there()
    found = [find_study(store, name) for name in names]
    studies = list({study.info.run_id: study for study in found}.values())
    goals = goals_of(studies)
    ranked = [trial for study in studies for trial in _ranked(store, study, goals, limit)]
    ranked.sort(key=lambda one: one[0])
    is_cut = limit is not None and len(ranked) > limit
    searched = [key for study in studies for key in searched_keys(study)]
    runs = [run for _, every, _ in ranked[:limit] for run, _ in every]
    params = _varying(runs, searched, always=searched if is_cut else ())
    some = [tags.STUDY] if len(studies) > 1 else []
    has_seeds = any(tags.REPEAT in run.data.tags for run in runs)
    has_stages = any(tags.STAGE in run.data.tags for run in runs)
    some += [tags.TRIAL, *[tags.STAGE] * has_stages, *[tags.REPEAT] * has_seeds]
    rows = []
    for _, every, means in ranked[:limit]:
        for run, scores in every:
            cells = chain(*zip(scores, means, strict=True)) if has_seeds else scores
            rows.append(_trial(run, some, params, cells))
    columns = [tag.removeprefix(tags.PREFIX) for tag in some]
    scored = [[goal, f"{goal} mean"] if has_seeds else [goal] for goal, _ in goals]
    columns += [*params, *chain(*scored), "state", "seconds", "run_id"]
    notes = [] if rows else ["no trial has started yet."]
    notes += filter(None, (_lost_best(store, study) for study in studies))
    if is_cut:
        notes.append(f"only the best {limit} are listed; --limit lists more.")
    if len({study.data.params.get(DATA) for study in studies}) > 1:
        notes.append("these studies use different data: their scores cannot be compared.")
    return Table(columns, rows, " ".join(notes))


def _ranked(
    store: Store, study: Run, goals: Sequence[tuple[str, Direction]], limit: int | None
) -> Iterator[tuple[tuple[Any, ...], list[_Scored], list[float | None]]]:
    """Yield a study's trials: what each is sorted by, its runs with scores, and their means."""
    name = study.data.tags[tags.STUDY]
    trials = None if limit is None else _best_trials(store, study, goals, limit + 1)
    if trials is None:
        trials = trials_of(store, name)
    repeats = repeats_of(study, trials)
    for of_try in chain(*tries_of(map(_placed, trials))):
        every = [(run, scores_of(store, run, goals)) for run in reversed(of_try)]
        means = _means(every, repeats)
        yield _standing(every, means, goals), every, means


def _lost_best(store: Store, study: Run) -> str:
    """Say that a study's best trial cannot be listed, as its run was deleted."""
    best = study.data.tags.get(tags.BEST_RUN)
    if best is None or not is_deleted(seek_run(store, best)):
        return ""
    trial = study.data.tags.get(tags.BEST_TRIAL, "")
    return (
        f"{study.data.tags[tags.STUDY]}: the run {best} of its best trial, {trial}, was deleted "
        "in MLflow, so it is not listed."
    )


def _best_trials(
    store: Store, study: Run, goals: Sequence[tuple[str, Direction]], most: int
) -> list[Run] | None:
    """Return the runs of a study's best complete trials; None where MLflow cannot tell, or has few.

    MLflow sorts by a metric's final value, which a mean of evaluations or of seeds is not; nor can
    it sort trials of this version among those of an older one.
    """
    name = study.data.tags[tags.STUDY]
    objectives = [_objective(*goal) for goal in goals]
    own = [o for o in objectives if o and _is_logged(o, is_first=o is objectives[0])]
    has_old, has_new = (trials_of(store, name, seen, most=1) for seen in (OLD_BEST, NEW_BEST))
    logged = [o.metric.replace("val/", f"val/{o.aggregation}/" if has_old else "val/") for o in own]
    is_sorted = len(logged) == len(goals) and not (has_old and has_new)
    if repeats_of(study, ()) == 1 and is_sorted:
        ways = ["DESC" if way == "maximize" else "ASC" for _, way in goals]
        order = [f"metrics.`{key}` {way}" for key, way in zip(logged, ways, strict=True)]
        order.append("attributes.start_time ASC")  # of equal ones the first, as the study has it
        best = trials_of(store, name, f"tags.`{tags.STATE}` = 'complete'", order, most)
        if len(best) == most:
            return best
    return None


def runs(store: Store, condition: str, limit: int) -> Table:
    """Return the studies, trials and runs of the experiment, the latest first.

    ``run_seconds`` are by the clock, from a run's start to its end, pauses left out. The condition
    is in the grammar of MLflow's search, or the beginning of a study's name; empty for all.

    Raises:
        ConfigError: for a limit below 1, or a condition that MLflow cannot read.
        TrackingError: where nothing is recorded yet, or there is no such study.
    """
    _check_limit(limit)
    store.check_there()
    found = _search(store, condition, limit + 1)
    columns = ["run_id", "kind", "name", "study", "trial", "state", "start", "run_seconds"]
    rows = [_listed(store, run) for run in found[:limit]]
    notes = [] if found else ["no run matches."]
    if re.search("(val|early)/(best|last)/", condition):
        notes.append("runs of this version log val/best/… as val/….")
    if len(found) > limit:
        notes.append(f"only the latest {limit} are listed; --limit lists more.")
    return Table([*columns, "objective", "score"], rows, " ".join(notes))


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ConfigError(f"--limit {limit}: expected a whole number of 1 or more.")


def number(text: str | None) -> Cell:
    """Return a logged value as a number where it is written as one, or as it is."""
    if text is None or not _NUMBER.fullmatch(text):
        return text
    value = json.loads(text)
    return value if math.isfinite(value) else text


def goals_of(studies: Sequence[Run]) -> list[tuple[str, Direction]]:
    """Return the objectives that all the studies have, each with its direction."""
    every = {
        study.data.tags[tags.STUDY]: tuple(
            study.data.tags.get(tag, "") for tag in (tags.OBJECTIVE, tags.DIRECTION)
        )
        for study in studies
    }
    (first, (goals, ways)), *others = every.items()
    for name, (goal, way) in others:
        if (goal, way) != (goals, ways):
            raise TrackingError(
                f"{name}: its objective is {goal} ({way}), that of {first} is {goals} ({ways}); "
                "expected studies with the same objective."
            )
    directions: list[Direction] = [
        "maximize" if way == "maximize" else "minimize" for way in ways.split(", ")
    ]
    if not goals or len(directions) != len(goals.split(", ")):
        raise TrackingError(f"{printable(first)}: its record does not name its objective.")
    return list(zip(goals.split(", "), directions, strict=True))


def _varying(runs: Sequence[Run], searched: Sequence[str], always: Collection[str]) -> list[str]:
    """Return the parameters that have several values or are always shown, the searched first."""
    values: dict[str, set[str]] = {key: set() for key in searched}
    for run in runs:
        for key, value in sorted(migrated_params(run.data.params).items()):
            values.setdefault(key, set()).add(value)
    known = settings(values, with_threads=False)
    return [key for key, seen in known.items() if len(seen) > 1 or key in always]


def _trial(
    run: Run, some: Sequence[str], params: Sequence[str], scores: Iterable[float | None]
) -> list[Cell]:
    """Return a trial's row."""
    known, values = run.data.tags, migrated_params(run.data.params)
    return [
        *(known.get(tag, "") if tag == tags.STUDY else number(known.get(tag)) for tag in some),
        *(number(values.get(key)) for key in params),
        *scores,
        state_of(run),
        _seconds(run.data.metrics),
        run.info.run_id,
    ]


def _means(runs: Sequence[_Scored], repeats: int) -> list[float | None]:
    """Return a trial's means over its seeds, as its study was told; None until all are complete."""
    is_whole = len(runs) == repeats and all(state_of(run) == "complete" for run, _ in runs)
    by_goal = zip(*(scores for _, scores in runs), strict=True)
    known = [[score for score in scores if score is not None] for scores in by_goal]
    return [fmean(own) if is_whole and len(own) == repeats else None for own in known]


def _standing(
    runs: Sequence[_Scored], means: Sequence[float | None], goals: Sequence[tuple[str, Direction]]
) -> tuple[Any, ...]:
    """Return what a trial is sorted by: its state and scores, then its study, number and start."""
    (first, own), *_ = runs
    scores = own if all(mean is None for mean in means) else means
    return (
        max(_STANDING.get(state_of(run), 2) for run, _ in runs),
        [_loss(score, way) for score, (_, way) in zip(scores, goals, strict=True)],
        first.data.tags[tags.STUDY],
        *_order(first),
    )


def _placed(run: Run) -> tuple[str, int, Run]:
    """Return a run with its trial and the place of its seed there."""
    known = run.data.tags
    return known.get(tags.TRIAL, run.info.run_id), int(known.get(tags.REPEAT, 0)), run


def _order(run: Run) -> tuple[float, float, int]:
    """Return the order of runs within a study: by trial, seed and start."""
    known = [number(run.data.tags.get(tag)) for tag in (tags.TRIAL, tags.REPEAT)]
    trial, repeat = (n if isinstance(n, int) else math.inf for n in known)
    return trial, repeat, run.info.start_time or 0


def _loss(score: float | None, direction: Direction) -> float:
    """Return a score so that less is better; none is the worst."""
    if score is None or math.isnan(score):
        return math.inf
    return -score if direction == "maximize" else score


def objectives_of(run: Run) -> list[str]:
    """Return a run's objectives, of which a list is logged as Python writes it."""
    logged: str = run.data.params.get("evaluation.objective", "")
    return logged.strip("[]'").split("', '")


def scores_of(store: Store, run: Run, goals: Sequence[tuple[str, Direction]]) -> list[float | None]:
    """Return a run's score by each objective."""
    return [score_of(store, run, goal, way, is_first=i == 0) for i, (goal, way) in enumerate(goals)]


def score_of(
    store: Store, run: Run, goal: str, direction: Direction = "maximize", *, is_first: bool = True
) -> float | None:
    """Return a run's score, as `pipeline.tasks.objective` makes it; None where it has none.

    The goal is an objective as the config writes it. The first, by which a run's best evaluation
    was chosen, has the same score in either direction. A failed run has none, nor one that is
    running. One that was pruned when only a sample of the rows had been evaluated has that of the
    sample.
    """
    objective = _objective(goal, direction)
    if objective is None or run.data.tags.get(tags.STATE) in ("failed", "running"):
        return None
    metric, known = objective.metric, metrics_of(run)
    if metric not in known:
        metric = metric.replace("val/", "early/", 1)
    if metric not in known or _is_logged(objective, is_first=is_first):
        return known.get(metric)
    return objective.score(list(history(store, run.info.run_id, metric).values()))


def _objective(goal: str, direction: Direction) -> Objective | None:
    try:
        return parse(goal, direction)
    except ConfigError:  # of a record that is not as a run writes it
        return None


def _is_logged(objective: Objective, *, is_first: bool) -> bool:
    """Whether a run's score is the final value of the metric, and not only made of its history."""
    return objective.is_cost or (is_first and objective.aggregation in ("best", "last"))


def _seconds(metrics: Mapping[str, float]) -> float | None:
    """Return the seconds of training and evaluation; None of a run that logged neither."""
    spent = [metrics[cost] for cost in SECONDS if cost in metrics]
    return sum(spent) if spent else None


def _search(store: Store, condition: str, most: int) -> list[Run]:
    """Search our runs, the latest first."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    ours = f"tags.`{tags.KIND}` LIKE '%'"
    if not condition.strip():
        return find_runs(store, ours, most=most)
    if len(condition) > MOST_CHARACTERS:
        raise ConfigError(f"{cut(condition)}: expected at most {MOST_CHARACTERS:,} characters.")
    if not _COMPARES.search(condition) or _begins_a_study(store, condition):
        study = find_study(store, condition).data.tags[tags.STUDY]
        condition = f"tags.`{tags.STUDY}` = '{quoted(study)}'"
    try:
        return find_runs(store, f"{ours} and {condition}", most=most)
    except (MlflowException, SQLAlchemyError, OverflowError) as error:
        find_runs(store, ours, most=1)  # where it is not the filter's fault, this fails as well
        reason = cut(" ".join(str(error).partition("[SQL:")[0].split())).rstrip(".")
        raise ConfigError(
            f"{cut(condition)}: MLflow cannot read this filter: {reason}. Expected comparisons of "
            f"metrics, params, tags or attributes, joined by `and`, such as {EXAMPLE}."
        ) from error


def _begins_a_study(store: Store, name: str) -> bool:
    return any(study.data.tags[tags.STUDY].startswith(name) for study in all_studies(store))


def _listed(store: Store, run: Run) -> list[Cell]:
    known, kind = run.data.tags, run.data.tags.get(tags.KIND)
    start, end = run.info.start_time, run.info.end_time
    if kind == "study":
        objectives = known.get(tags.OBJECTIVE, "").split(", ")
        score = run.data.metrics.get("search/best_score")
    else:
        objectives = objectives_of(run)
        score = score_of(store, run, objectives[0])
    return [
        run.info.run_id,
        kind,
        run.info.run_name,
        known.get(tags.STUDY),
        number(known.get(tags.TRIAL)),
        state_of(run),
        _local_time(start),
        run.data.metrics.get(RUN_SECONDS, (end - start) / 1000) if start and end else None,
        objectives[0],
        score,
    ]


def _local_time(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    try:
        return datetime.fromtimestamp(milliseconds // 1000).astimezone().isoformat()
    except (ValueError, OverflowError, OSError):  # no time of this calendar
        return str(milliseconds)
