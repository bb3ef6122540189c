"""Searches recorded curves in every way, many times each, and prints what they took.

Of a way that has options, those are taken that do best on the other data sets: their score is the
mean, over these, of the 90th percentile of the share of the grid's steps until the best trial is
good enough, in a quarter of the replays. Good enough: its mean score over all seeds is at most one
standard error below the grid's best mean score.

    python benchmarks/curves/table.py [--replays 200] [--only WAY …]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from curves import HERE, Curves
from replay import SHARES, Replayed, Way, recommended, replay


def sampler(name: str, **options: Any) -> dict[str, Any]:
    """Return a sampler's config."""
    return {"_target_": f"optuna.samplers.{name}Sampler", **options}


def halving(rung: float, *, eager: bool, factor: int = 3) -> dict[str, Any]:
    """Return the config of the halving that pauses."""
    target = "pipeline.search.pruners.PauseAndPromote"
    return {"_target_": target, "min_resource": rung, "reduction_factor": factor, "eager": eager}


def killing(name: str, **options: Any) -> dict[str, Any]:
    """Return the config of a pruner of Optuna's."""
    return {"_target_": f"optuna.pruners.{name}Pruner", **options}


NEVER = 1.0  # the share where a search ends without: that of the whole grid
SHUFFLED = {"shuffle": True}  # without a class: a grid
PRIOR = {"_target_": "pipeline.search.prior.PriorSampler"}
HALF = halving(0.36, eager=True, factor=2)
QUICK = Way(PRIOR, HALF, (0.36,), "200", centre="rule")  # as sweeps/quick.yaml
FEWER = {"gp": 10}  # replays, by this factor: it takes seconds a search
RUNGS = ((0.04, 0.12, 0.36), (0.12, 0.36), (0.36,), (0.12,))
ROWS = ("100", "200", "all")


def families() -> dict[str, list[Way]]:
    """Return the ways to search by name, each with the options that it is tried with."""
    tpe = sampler("TPE", n_startup_trials=10)
    asha = [
        Way(tpe, killing("SuccessiveHalving", min_resource=rungs[0], reduction_factor=3), rungs, n)
        for rungs in RUNGS
        for n in ROWS
    ]
    hyperband = killing("Hyperband", min_resource=0.12, max_resource=1.0, reduction_factor=3)
    paused = {
        eager: [
            Way(SHUFFLED, halving(rungs[0], eager=eager), rungs, rows, is_grid=True)
            for rungs in RUNGS
            for rows in ROWS
        ]
        for eager in (False, True)
    }
    prior = [
        Way(PRIOR, halving(rungs[0], eager=True, factor=factor), rungs, "200", centre="rule")
        for rungs in ((0.36,), (0.6,))  # a second rung, of twice the first, is not recorded
        for factor in (2, 3)
    ]
    return {
        "grid, shuffled": [Way(SHUFFLED, is_grid=True)],
        "random": [Way(sampler("Random"))],
        "tpe": [Way(tpe)],
        "gp": [Way(sampler("GP", n_startup_trials=5))],
        "tpe, asha": asha,
        "tpe, hyperband": [Way(tpe, hyperband, (0.12, 0.36), rows) for rows in ROWS],
        "promote": paused[False],
        "promote, eager": paused[True],
        "prior": [Way(PRIOR, centre="rule")],
        "prior, worst centre": [Way(PRIOR, centre="worst")],
        "prior, promote, eager": prior,
        "quick": [QUICK],
        "history, random": [Way(sampler("Random"), history=True)],
        "history, quick": [replace(QUICK, history=True)],
        "quick, worst centre": [replace(QUICK, centre="worst")],
    }


def names_in(folder: Path) -> list[str]:
    """Return the names of the data sets whose curves a folder has."""
    return sorted(path.stem for path in folder.glob("*.jsonl"))


def run(folder: Path, name: str, way: Way, replays: int) -> list[Replayed]:
    """Search a data set's curves so many times in a way."""
    curves, first = Curves(name, folder), []
    if way.history:
        first = recommended([Curves(o, folder) for o in names_in(folder) if o != name])
    return [replay(curves, way, seed, first) for seed in range(replays)]


def good_points(folder: Path) -> str:
    """Return the line of the table that says how many of the points are good enough."""
    every = [Curves(name, folder) for name in names_in(folder)]
    counts = [sum(score >= c.target for score in c.qualities.values()) for c in every]
    return f"| good points | {' | '.join(map(str, counts))} |{' |' * len(SHARES)}"


def ninth(found: Sequence[Replayed]) -> float:
    """Return the 90th percentile of the share of the grid's steps until good enough."""
    return float(np.quantile([min(r.to_target, NEVER) for r in found], 0.9))


def chosen(found: Mapping[str, Sequence[Sequence[Replayed]]], left_out: str) -> int:
    """Return which options do best on all data sets but one."""
    others = [by_options for name, by_options in found.items() if name != left_out]
    count = len(found[left_out])
    return min(range(count), key=lambda i: fmean(ninth(options[i]) for options in others))


def places_of(
    pool: Executor, folder: Path, names: Sequence[str], family: Sequence[Way], replays: int
) -> dict[str, int]:
    """Return for each data set which of a family's options the others choose."""
    if len(family) == 1:
        return dict.fromkeys(names, 0)
    jobs = {n: [pool.submit(run, folder, n, way, replays) for way in family] for n in names}
    found = {name: [job.result() for job in each] for name, each in jobs.items()}
    return {name: chosen(found, name) for name in names}


def percent(share: float) -> str:
    """Return a share of the grid's steps as text."""
    return f"{share:.1%}" if share < NEVER else "–"


def row(label: str, found: Mapping[str, Sequence[Replayed]]) -> str:
    """Return a line of the table: median and 90th percentile on each data set, then regrets."""
    cells = []
    for replays in found.values():
        middle = median(min(r.to_target, NEVER) for r in replays)
        cells.append(f"{percent(middle)}, {percent(ninth(replays))}")
    every = [r for replays in found.values() for r in replays]
    cells += [f"{fmean(r.regrets[i] for r in every):.3f}" for i in range(len(SHARES))]
    return f"| {label} | {' | '.join(cells)} |"


def described(way: Way) -> str:
    """Return the options of a way in short."""
    own = {**way.sampler, **way.pruner}
    shown = [f"{k}={v}" for k, v in own.items() if not k.startswith("_")]
    if way.rungs:
        shown.append(f"rungs {', '.join(f'{r:g}' for r in way.rungs)} on {way.rows} rows")
    return ", ".join(shown) or "none"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--only", nargs="*", help="these ways")
    parser.add_argument("--curves", type=Path, default=HERE, help="the folder of the curves")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    names = names_in(options.curves)
    ways = {k: v for k, v in families().items() if not options.only or k in options.only}
    regret = " | ".join(f"regret at 1/{1 / share:.0f}" for share in SHARES)
    print(f"| way | {' | '.join(names)} | {regret} |")
    print(f"|---|{'---:|' * (len(names) + len(SHARES))}")
    print(good_points(options.curves))
    notes = []
    with ProcessPoolExecutor(options.processes) as pool:
        for label, family in ways.items():
            replays = max(1, options.replays // FEWER.get(label, 1))
            places = places_of(pool, options.curves, names, family, max(1, replays // 4))
            jobs = {
                name: pool.submit(run, options.curves, name, family[place], replays)
                for name, place in places.items()
            }
            print(row(label, {name: job.result() for name, job in jobs.items()}), flush=True)
            if len(family) > 1:
                notes += [f"- {label}, on {n}: {described(family[p])}" for n, p in places.items()]
    print("\nOptions, chosen on the other data sets:\n")
    print("\n".join(notes))


if __name__ == "__main__":
    main()
