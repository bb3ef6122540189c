"""What a search says before its first trial and after its last one, and the file of its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf

from pipeline.search.samplers import sampler_name
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import KILLED, REASON, best_first, ended, pareto_front
from pipeline.search.workers.sizing import WorkerPlan


def plan_lines(spec: StudySpec, plan: WorkerPlan, done: int) -> list[str]:
    """Return what a search is to do: a line in all, then one for each key of the space."""
    n_trials = spec.budget.n_trials
    points = f"a grid of {spec.space.size} points, " if spec.is_grid else ""
    name = sampler_name(spec.sampler, spec.space)
    seeds = f", each on {len(spec.seeds)} seeds" if spec.seeds else ""
    again = f"; {done} done before, {max(n_trials - done, 0)} to go" if done else ""
    whole = f"study {spec.name}: {points}{n_trials} trials by {name}{seeds}{plan}{again}"
    return [whole, *(f"  {key}: {values}" for key, values in spec.space.describe().items())]


def summary_lines(study: optuna.Study, spec: StudySpec) -> list[str]:
    """Return what to say of a search at its end, failures with their reasons included."""
    done, failed, pruned = ended(study), ended(study, "failed"), ended(study, "pruned")
    killed = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get(KILLED) and t.params]
    parts = [f"{len(done)} of {spec.budget.n_trials} trials done", f"{len(failed)} failed"]
    parts += [f"{len(pruned)} pruned"] if pruned else []
    parts += [f"{len(killed)} killed and run again"] if killed else []
    lines = [f"{spec.name}: {', '.join(parts)}."]
    lines += [f"trial {t.number} failed: {t.user_attrs.get(REASON, '')}" for t in failed]
    return lines


def write_results(study: optuna.Study, spec: StudySpec, folder: Path) -> None:
    """Write ``optimization_results.yaml`` as the official plugin does."""
    ranked = best_first(study)
    if not ranked:
        return
    results: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) == 1:
        params = spec.space.settings(ranked[0].params)
        results |= {"best_params": params, "best_value": ranked[0].value}
    else:
        front = [
            {"params": spec.space.settings(t.params), "values": t.values}
            for t in pareto_front(study)
        ]
        results |= {"solutions": front}
    OmegaConf.save(OmegaConf.create(results), folder / "optimization_results.yaml")
