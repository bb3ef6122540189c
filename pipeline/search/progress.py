"""What a search says before its first trial, while it runs and at its end, and its results."""

import socket
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Self

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.common.errors import amount, is_explained
from pipeline.common.tables import Cell, Table, as_rich
from pipeline.search.cost import span
from pipeline.search.pruners import pruner_name
from pipeline.search.samplers import sampler_name
from pipeline.search.searchable import SEED
from pipeline.search.space.dimension import Params, encode
from pipeline.search.study.budget import seconds_of
from pipeline.search.study.liveness import OWNER
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import (
    COSTED,
    PAUSED_AT,
    REASON,
    SOURCE,
    STAGE,
    STEP,
    all_params,
    best_first,
    counted,
    ended,
    in_state,
    kind_of_failure,
    pareto_front,
    planned,
    run_again,
    score_text,
    scores_of,
    state_of,
    why_ended,
    with_spread,
)
from pipeline.search.workers.sizing import WorkerPlan

POLL_SECONDS = 0.5
SHOWN_LIVE = 12  # trials on a terminal: all that run, and the latest of the others
SHOWN_POINTS = 20  # of a dry run


class Progress:
    """Follows a study: a live table on a terminal, a line a finished trial elsewhere.

    It reads the study's storage, so it sees the trials of workers in other processes too.
    """

    def __init__(self, spec: StudySpec, console: Console) -> None:
        self._spec = spec
        self._console = console
        self._study = spec.open()
        self._told = {t.number for t in _over(self._study)}
        self._before = len(ended(self._study))
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._stop.set()
            self._thread.join()

    def _follow(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._stop.wait(POLL_SECONDS)
            try:
                self._print_new()
            except Exception as error:
                if not is_explained(error):  # who works on the study says it, and ends with it
                    raise

    def _print_new(self) -> None:
        news = [trial for trial in _over(self._study) if trial.number not in self._told]
        for place, trial in enumerate(news, 1):
            self._told.add(trial.number)
            summary = self._summary(later={t.number for t in news[place:]})
            self._console.print(
                f"trial {trial.number}: {describe(trial, self._spec)}; {summary}",
                highlight=False,
                soft_wrap=True,
            )

    def _summary(self, later: Collection[int] = ()) -> str:
        """Return how far the search is, by all trials that are over but those told later."""

        def known(trials: list[FrozenTrial]) -> list[FrozenTrial]:
            return [t for t in trials if t.number not in later]

        done, ranked = known(ended(self._study)), known(best_first(self._study))
        most = planned(self._study, self._spec.budget.n_trials)
        parts = [f"{len(done)} of {most} done{self._stage()}"]
        paused = len(in_state(self._study, "paused"))
        parts += [f"{paused} paused"] if paused else []
        for state in ("pruned", "failed"):
            count = len(known(in_state(self._study, state)))
            parts += [f"{count} {state}"] if count else []
        if ranked and _differ_in_seeds(self._spec):
            parts.append(best_line(self._spec, ranked))
        elif ranked:
            parts.append(f"best {ranked[0].values[0]:.4f} (trial {ranked[0].number})")
        here, left = len(done) - self._before, most - len(done)
        if here and left > 0:
            seconds = (time.monotonic() - self._started) / here * left
            parts.append(f"about {span(seconds)} left")
        return ", ".join(parts)

    def _stage(self) -> str:
        """Return which stage the latest trial is of."""
        count = len(self._spec.stages)
        latest = max((t.user_attrs.get(STAGE, 1) for t in counted(self._study)), default=1)
        return f" (stage {latest} of {count})" if count else ""

    def _render(self) -> Group:
        every = counted(self._study)
        running = [t for t in every if state_of(t) == "running"]
        others = [t for t in every if state_of(t) != "running"]
        latest = others[-max(SHOWN_LIVE - len(running), 1) :]
        table = trial_table(self._spec, [*latest, *running], workers=True)
        return Group(as_rich(table), Text(f"{self._spec.name}: {self._summary()}"))


def describe(trial: FrozenTrial, spec: StudySpec) -> str:
    """Return a trial that is over in a line."""
    params = ", ".join(f"{key}={encode(value)}" for key, value in all_params(trial).items())
    took = f"in {span(seconds_of(trial))}" + (f" with {params}" if params else "")
    took += f" ({trial.user_attrs[SOURCE]})" if SOURCE in trial.user_attrs else ""
    match state_of(trial):
        case "complete":
            return f"{score_text(trial)} {took}"
        case "pruned":
            at = trial.user_attrs.get(STEP, 0) / spec.unit
            score = f" with {text}" if (text := score_text(trial)) else ""
            why = f"; {why_ended(trial)}" if why_ended(trial) else ""
            return f"pruned at {at:g}{score} {took}{why}"
        case "killed":
            why = trial.user_attrs.get(REASON, "killed").partition("killed: ")[2]
            return f"killed {took}; it is run again" + (f" ({why})" if why else "")
        case state:
            return f"{state} {took}: {trial.user_attrs.get(REASON, '')}"


def trial_table(spec: StudySpec, trials: list[FrozenTrial], *, workers: bool = False) -> Table:
    """Return trials as a table: number, what was searched, score, state, time, and who runs it."""
    rows: list[list[Cell]] = []
    for trial in trials:
        outcome = [_score(trial, spec), _state(trial, spec), span(seconds_of(trial))]
        who = [_worker(trial)] if workers else []
        rows.append([*_which(trial, spec), *_encoded(all_params(trial), spec), *outcome, *who])
    which = ["trial", "stage"] if spec.stages else ["trial"]
    columns = [*which, *spec.space.distributions, "score", "state", "time", *["worker"] * workers]
    return Table(columns, rows, left=["state"])


def _which(trial: FrozenTrial, spec: StudySpec) -> list[Cell]:
    return [trial.number, *([trial.user_attrs.get(STAGE)] if spec.stages else [])]


def front_table(spec: StudySpec, study: optuna.Study) -> Table:
    """Return the Pareto front: what was searched, the scores, and what each trial's run cost."""
    front = pareto_front(study)
    names = list(dict.fromkeys(name for t in front for name in t.user_attrs.get(COSTED, {})))
    rows: list[list[Cell]] = []
    for trial in front:
        costs = trial.user_attrs.get(COSTED, {})
        shown = (_figure(costs[name]) if name in costs else "" for name in names)
        rows.append([trial.number, *_encoded(trial.params, spec), score_text(trial), *shown])
    costs = (name.removeprefix("cost/") for name in names)
    return Table(["front: trial", *spec.space.distributions, "scores", *costs], rows, left=[])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def points_table(spec: StudySpec, points: Sequence[Params]) -> Table:
    """Return points that are not run yet as a table, at most the first ``SHOWN_POINTS``."""
    keys = spec.space.distributions
    names = [f"stage {spec.stage}: trial" if spec.stage else "trial", *keys]
    rows: list[list[Cell]] = [
        [number, *_encoded(point, spec)] for number, point in enumerate(points[:SHOWN_POINTS])
    ]
    if len(points) > SHOWN_POINTS:
        rows.append(["…", *[None] * len(keys)])
    return Table(names, rows, left=[])


def _encoded(params: Mapping[str, Any], spec: StudySpec) -> list[str]:
    return [encode(params.get(key, "")) for key in spec.space.distributions]


def _over(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that are over, in the order of their ends, killed ones included."""
    over = [*ended(study), *run_again(study)]
    told = [t for t in over if t.params and t.datetime_complete is not None]
    return sorted(told, key=attrgetter("datetime_complete"))


def _state(trial: FrozenTrial, spec: StudySpec) -> str:
    match state_of(trial):
        case "running" | "paused" as state:
            step = trial.user_attrs.get(PAUSED_AT) or trial.last_step
            return state if step is None else f"{state} at {step / spec.unit:g}"
        case "pruned":
            why = f", {why_ended(trial)}" if why_ended(trial) else ""
            return f"pruned at {trial.user_attrs.get(STEP, 0) / spec.unit:g}{why}"
        case "failed":
            return f"failed: {kind_of_failure(trial)}"
        case state:
            return state


def _worker(trial: FrozenTrial) -> str:
    """Return the process that runs a trial; with its machine, where that is another one."""
    owner = trial.user_attrs.get(OWNER)
    if owner is None:
        return ""
    elsewhere = owner["host"] != socket.gethostname()
    return f"{owner['host']} {owner['pid']}" if elsewhere else str(owner["pid"])


def _score(trial: FrozenTrial, spec: StudySpec) -> str:
    """Return a trial's scores; none of one that still runs and reports another metric."""
    is_other = spec.pruner.get("metric") and state_of(trial) in ("running", "paused")
    return "" if is_other else score_text(trial)


def best_line(spec: StudySpec, ranked: Sequence[FrozenTrial]) -> str:
    """Return what came out: the best trial, or the mean of trials that differ in their seeds."""
    if not _differ_in_seeds(spec):
        return f"best: trial {ranked[0].number}, {describe(ranked[0], spec)}"
    means = [
        with_spread(fmean(scores), stdev(scores) if len(scores) > 1 else None)
        for scores in zip(*map(scores_of, ranked), strict=True)
    ]
    return f"mean over {amount(len(ranked), 'seed')}: {', '.join(means)}"


def _differ_in_seeds(spec: StudySpec) -> bool:
    """Whether the trials are one config on several seeds, so that none is better by its config."""
    return list(spec.space.distributions) == [SEED]


def plan_lines(spec: StudySpec, plan: WorkerPlan, study: optuna.Study) -> list[str]:
    """Return what a search is to do: a line in all, then one for each key of the space."""
    n_trials, done = planned(study, spec.budget.n_trials), len(ended(study))
    how = f", pruned by {pruner_name(spec.pruner)}" if spec.prunes else ""
    how += f", each on {len(spec.seeds)} seeds" if spec.seeds else ""
    again = f"; {done} done before, {max(n_trials - done, 0)} to go" if done else ""
    if not spec.stages:
        whole = f"study {spec.name}: {_points(spec, n_trials)}{how}{plan}{again}"
        return [whole, *(f"  {key}: {values}" for key, values in spec.space.describe().items())]
    stages = amount(len(spec.stages), "stage")
    lines = [f"study {spec.name}: {n_trials} trials in {stages}{how}{plan}{again}"]
    for stage in spec.stages:
        own = _points(replace(spec, space=stage.space), stage.n_trials or 0)
        fixed = ", ".join(f"{key}={encode(value)}" for key, value in stage.fixed.items())
        lines.append(f"stage {stage.number}: {own}{f', with {fixed}' if fixed else ''}")
        lines += [f"  {key}: {values}" for key, values in stage.describe().items()]
    return lines


def _points(spec: StudySpec, n_trials: int) -> str:
    """Say how many trials a search has, and who chooses their points."""
    points = f"a grid of {spec.space.size} points, " if spec.is_grid else ""
    return f"{points}{n_trials} trials by {sampler_name(spec.sampler, spec.space)}"


def summary_lines(study: optuna.Study, spec: StudySpec) -> list[str]:
    """Return what to say of a search at its end, failures with their reasons included."""
    done, failed, pruned = ended(study), ended(study, "failed"), ended(study, "pruned")
    killed = run_again(study)
    most = planned(study, spec.budget.n_trials)
    parts = [f"{len(done)} of {most} trials done", f"{len(failed)} failed"]
    parts += [f"{len(pruned)} pruned"] if pruned else []
    parts += [f"{len(killed)} killed and run again"] if killed else []
    why = [f"trial {t.number} failed: {t.user_attrs.get(REASON, '')}" for t in failed]
    return [f"{spec.name}: {', '.join(parts)}.", *why]


def write_results(study: optuna.Study, spec: StudySpec, folder: Path) -> None:
    """Write ``optimization_results.yaml`` as the official plugin does."""
    ranked = best_first(study)
    if not ranked:
        return
    settings = spec.space.settings
    results: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) == 1:
        results |= {"best_params": settings(all_params(ranked[0])), "best_value": ranked[0].value}
    else:
        front = pareto_front(study)
        results["solutions"] = [{"params": settings(t.params), "values": t.values} for t in front]
    OmegaConf.save(OmegaConf.create(results), folder / "optimization_results.yaml")
