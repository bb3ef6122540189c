"""Every figure that is shown, compared with the same quantity computed from primary records.

A line, a column or a metric without an entry here fails. The counts are printed by
``python -m pytest tests/system/tracking/test_figures.py -n 0 -rP | grep figures``.
"""

import math
import re
from collections import Counter, defaultdict
from statistics import fmean

import psutil
import pytest

from pipeline.common.timing import PHASES
from tests.support.shown import (
    MEMBERS,
    STUDIES,
    TRAIN,
    VALIDATION,
    WATTS,
    N,
    Shown,
    best_scores,
    check_lines,
    check_metrics,
    check_scores,
    clock,
    disk_of,
    f1_of,
    ignore,
    in_order,
    parameters,
    predictions,
    ran,
    runs_of,
    same,
    scores,
    seconds_of,
    states,
    total,
)
from tests.support.stores import artifact, cost_of, scores_of, splits_of

N_TRIALS = {"two": 4, "several": 2, "promoted": 4}
SEEDS = {"several": 2}
COSTS = ("train_seconds", "evaluate_seconds", "seconds_per_1000_rows", "parameters", "memory_mb")


def rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: linear over 6 % of them, then linear to zero."""
    warmup, done = math.ceil(0.06 * steps), step - 1
    return peak * (done / warmup if done < warmup else (steps - done) / (steps - warmup))


def steps_of(run) -> int:
    """Return how many steps a run takes."""
    params = run.data.params
    return int(params["training.epochs"]) * math.ceil(TRAIN / int(params["training.batch_size"]))


def metrics_of(shown: Shown, run, judged: int) -> dict:
    """Return what a complete run's metrics are, by patterns of names; it was judged so often."""
    of, best, table = run.data.metrics, best_scores(run), predictions(run)
    f1, losses = shown.points(run, "val/f1_macro"), shown.points(run, "train/loss")
    first_best = min(f1, key=lambda step: (-f1[step], step))
    an_epoch = math.ceil(TRAIN / int(run.data.params["training.batch_size"]))
    majority = scores(table["label"], ["pos"] * VALIDATION)
    account = cost_of(run)["account"]
    phases = account["phases"]
    assert phases.keys() <= set(PHASES)
    assert account["seconds"] == pytest.approx(sum(phases.values()))
    assert account["over_lower_bound"] == account["seconds"] / account["lower_bound"]
    assert 0 < account["lower_bound"] < phases["forward_backward"]
    check_score_table(run, best, majority)

    def is_best(name: str, value: float) -> bool:
        history = shown.points(run, name)
        known = value == history[first_best] == pytest.approx(best[name[4:]], abs=1e-5)
        return len(history) == judged and known

    peak = float(run.data.params["optimizer.learning_rate"])
    return {
        "train/learning_rate": rate(max(losses), steps_of(run), peak),
        "train/(loss|grad_norm)": lambda _, value: 0 < value < 10,
        "best/step": first_best,
        "best/epoch": first_best / an_epoch,
        "val/majority/f1_macro": majority["f1_macro"],
        "val/(loss|accuracy|f1_(macro|weighted)|(precision|recall)_macro)": is_best,
        "cost/parameters": lambda _, value: value == parameters(run),
        "cost/memory_mb": lambda _, value: 1 < value < psutil.virtual_memory().total / 2**20,
        "cost/train_seconds": sum(map(phases.get, ("batches", "forward_backward", "optimizer"))),
        "cost/evaluate_seconds": lambda _, v: 0 < v <= phases["evaluation"],
        "cost/seconds_per_1000_rows": 1e3 * of["cost/evaluate_seconds"] / (judged * VALIDATION),
        "time/run_seconds": lambda _, value: abs(value - ran(shown, run)) < 1e-3,
    }


def check_score_table(run, best: dict, majority: dict) -> None:
    """Check the table of a run: the scores of model and baseline, and the rows of each label."""
    expected = {}
    for whose, values in (("", best), ("majority ", majority)):
        for metric, value in values.items():
            kind, label, average = *metric.partition("/")[::2], metric.partition("_")[2]
            row = label or (f"{average} average" if average else metric)
            column = kind.partition("_")[0] if label or average else "score"
            expected[row, whose + column] = value
    told = predictions(run)
    pairs = Counter(zip(told["label"], told["prediction"], strict=True))
    for label in ("neg", "pos"):
        expected[label, "rows"] = told["label"].count(label)
        expected |= {(label, f"predicted {to}"): pairs[label, to] for to in ("neg", "pos")}
    assert scores_of(run) == pytest.approx(expected, abs=1e-5)


def check_points(shown: Shown, run) -> "callable":
    """Return the check of a line of points, against MLflow's."""

    def check(found: re.Match[str]) -> None:
        step = int(found[1])
        for name, value in re.findall(rf"([a-z0-9_/]+) {N}", found[2]):
            same(value, shown.points(run, name)[step], digits=4)
            if name == "train/learning_rate":
                same(value, rate(step, steps_of(run), 0.01), digits=4)

    return check


def test_a_run_shows_what_it_logs_and_predicts(shown):
    (run,) = shown.runs("run")
    best, table = best_scores(run), predictions(run)
    majority = scores(table["label"], ["pos"] * VALIDATION)

    def compared(found: re.Match[str]) -> None:
        same(found[2], best[found[1]])
        same(found[3], majority[found[1]])

    def score(found: re.Match[str]) -> None:
        same(found[1], best["f1_macro"])
        assert int(found[2]) == run.data.metrics["best/step"]

    count = check_lines(
        shown.said("train"),
        [
            (
                rf"step (\d+): ((?:(?:train|val)/[a-z0-9_]+ {N[1:-1]}(?:, )?)+)",
                check_points(shown, run),
            ),
            (rf"score {N} at step (\d+)", score),
            (rf"val/([a-z0-9_]+) +{N} +{N}", compared),
            (
                rf"score val/f1_macro {N}, run {run.info.run_id}",
                lambda f: same(f[1], best["f1_macro"]),
            ),
        ],
    )
    steps = steps_of(run)
    assert set(shown.points(run, "train/loss")) == {1, *range(2, steps + 1, 2)}
    assert set(shown.points(run, "val/loss")) == {steps // 4 * n for n in (1, 2, 3, 4)}
    total(count + check_metrics(run, metrics_of(shown, run, judged=4)), "a run")


def lines_of_search(shown: Shown, study: str) -> list:
    """Return the entries of what a search says."""
    trials, best = shown.journal(study), int(shown.study(study).data.tags["tunewright.best_trial"])
    order, wall = states(shown, study), clock(shown.study(study))
    costs = cost_of(shown.study(study))
    account, expected = costs["account"], costs.get("forecast", {})
    some = sum(r.info.end_time is not None for r in shown.trials(study))
    assert some == sum(max(1, len(t.user_attrs.get("repeats", [1]))) for t in trials)

    def ended(found: re.Match[str]) -> None:
        number = int(found["number"])
        if found["a"]:
            check_scores(shown, study, number, found.group("a", "b", "c", "d"))
        if found["kept"]:
            check_scores(shown, study, number, (found["kept"], None, None, None))
        same(found["took"], seconds_of(shown, study, number))
        assert int(found["of"]) == N_TRIALS[study] >= int(found["done"])

    def row(found: re.Match[str]) -> None:
        number = int(found[1])
        if found[2]:
            check_scores(shown, study, number, found.groups()[1:5])
        assert found["state"].split()[0].rstrip(":") == order[number]
        same(found["took"], seconds_of(shown, study, number))

    def counts(found: re.Match[str]) -> None:
        assert [int(n or 0) for n in found.groups()] == [
            len(order),
            N_TRIALS[study],
            order.count("failed"),
            order.count("pruned"),
        ]

    def times(found: re.Match[str]) -> None:
        same(found[1], wall)
        workers = int(found[2])
        same(found[3], account["seconds"])
        assert account["seconds"] == pytest.approx(workers * wall, abs=0.01)
        for phase, percent in re.findall(r"([a-z/]+) (\d+)%", found[4]):
            share = account["phases"][phase.replace("/", "_")] / (workers * wall)
            same(percent, 100 * share)

    def bound(found: re.Match[str]) -> None:
        same(found[1], account["lower_bound"])
        same(found[2], account["over_lower_bound"])

    def cost(found: re.Match[str]) -> None:
        same(found[1], expected["seconds"])
        same(found[2], wall)
        same(found[3], disk_of(shown, study) / 1e6)
        machine = sum(seconds_of(shown, study, n) for n in range(len(trials)))
        same(found[4], machine * WATTS / 3600)
        same(found[5], 100 * (wall / expected["seconds"] - 1))

    def forecast(found: re.Match[str]) -> None:
        same(found[1], expected["seconds"])
        same(found[2], expected["disk"] / 1e6)
        same(found[3], expected["machine_seconds"] * WATTS / 3600)

    def front(found: re.Match[str]) -> None:
        number = int(found[1])
        check_scores(shown, study, number, found.groups()[1:5])
        for name, value in zip(COSTS, found.groups()[5:], strict=True):
            same(
                value,
                fmean(run.data.metrics[f"cost/{name}"] for run in runs_of(shown, study, number)),
            )

    points = len(trials)
    scores_ = r"(?P<a>[\d.]+)(?: ± (?P<b>[\d.]+))?(?:, (?P<c>[\d.]+)(?: ± (?P<d>[\d.]+))?)?"
    told = rf"trial (?P<number>\d+): (?:{scores_}|pruned at 1 with (?P<kept>[\d.]+)|failed)"
    figures = [
        (
            rf"study {study}: a grid of {points} points, {points} trials by GridSampler"
            rf"{', pruned by PauseAndPromote' if study == 'promoted' else ''}"
            rf"(?:, each on {SEEDS.get(study)} seeds)?, 2 workers(?: \(auto: .*\))?",
            ignore,
        ),
        (r"[a-z.]+_(?:rate|size|weights): .*", ignore),
        (r"data: 0 errors, 0 warnings, 0 notes", ignore),
        (
            rf"{told} in (?P<took>[\d.]+) s with [^;]*?(?:: diverged.*)?; "
            r"(?P<done>\d+) of (?P<of>\d+) done.*",
            ended,
        ),
        (
            rf"(\d+) +\S+(?: +\d+)? +(?:{MEMBERS} +)?"
            r"(?P<state>complete|pruned at 1|failed: diverged)"
            rf" +(?P<took>[\d.]+) s",
            row,
        ),
        (rf"{study}: (\d+) of (\d+) trials done, (\d+) failed(?:, (\d+) pruned)?\.", counts),
        (
            rf"best: trial {best}, {scores_} in (?P<took>[\d.]+) s with .*",
            lambda f: check_scores(shown, study, best, f.group("a", "b", "c", "d")),
        ),
        (r"time: ([\d.]+) s by (\d) workers, ([\d.]+) s in all: (.*)", times),
    ]
    if account["lower_bound"] >= 0.05:
        figures.append((rf"compute lower bound: {N} s in all .* took {N} times that", bound))
    if study != "promoted":
        figures += [
            (
                rf"forecast: {N} s, {N} MB on disk, {N} Wh \(estimated from the stated power\)",
                forecast,
            ),
            (rf"forecast {N} s, took {N} s, {N} MB on disk, {N} Wh \(.*\) \(\+?{N}%\)", cost),
        ]
    if study == "several":
        figures += [
            (r"trial 1 failed: diverged: step 1: .*", ignore),
            (r"front: trial .*seconds_per_1000_rows.*", ignore),
            (rf"(\d+) +null +{MEMBERS} +{N} +{N} +{N} +{N} +{N}", front),
        ]
    return figures


@pytest.mark.parametrize("study", STUDIES)
def test_a_search_says_what_its_trials_found_and_took(shown, study):
    total(check_lines(shown.said(study), lines_of_search(shown, study)), f"search {study}")


@pytest.mark.parametrize("study", STUDIES)
def test_metrics_of_a_study_are_those_of_its_trials(shown, study):
    run, runs = shown.study(study), shown.trials(study)
    of, wall = run.data.metrics, clock(run)
    numbers = range(len(shown.journal(study)))
    machine = sum(seconds_of(shown, study, n) for n in numbers)
    ends: dict[str, int] = {}
    for one in in_order(r for r in runs if r.data.tags["tunewright.state"] == "complete"):
        ends[one.data.tags["tunewright.trial"]] = one.info.end_time
    order = sorted(ends, key=ends.__getitem__)
    found = [fmean(f1_of(shown, study, int(number))) for number in order]
    assert shown.points(run, "search/score") == pytest.approx(dict(enumerate(found, 1)))
    so_far = {n: max(found[:n]) for n in range(1, len(found) + 1)}
    assert shown.points(run, "search/best_score") == pytest.approx(so_far)
    assert run.data.tags["tunewright.best_trial"] == min(
        order, key=lambda n: (-fmean(f1_of(shown, study, int(n))), int(n))
    )
    costs = cost_of(run)
    account, found_cost, forecast = costs["account"], costs["spent"], costs.get("forecast")
    phases = account["phases"]
    of_trials = sum(t.user_attrs["account"][0]["forward_backward"] for t in shown.journal(study))
    assert phases["forward_backward"] == pytest.approx(of_trials)
    assert all(0 <= phases[name] < 2 * wall for name in phases.keys() & set(PHASES))
    assert account["seconds"] == pytest.approx(2 * wall, abs=0.01)
    accounts = [cost_of(r)["account"] for r in runs if artifact(r, "cost.json").exists()]
    bound = sum(one.get("lower_bound", 0) for one in accounts)
    assert account["lower_bound"] == pytest.approx(bound)
    assert account["over_lower_bound"] == account["seconds"] / account["lower_bound"]
    assert abs(found_cost["seconds"] - wall) < 0.002
    expected = {
        "search/score": found[-1],
        "search/best_score": max(found),
        "time/run_seconds": found_cost["seconds"],
        "spent/machine_seconds": machine,
        "spent/disk": disk_of(shown, study),
        "spent/kwh": machine * WATTS / 3.6e6,
        "spent/usd": 0,
    }
    if study != "promoted":
        before = sum(phases.get(phase, 0) for phase in ("check", "forecast"))
        least = (forecast["machine_seconds"] + before) / 2
        assert 0 < forecast["machine_seconds"] < 100 * machine
        assert forecast["kwh"] == pytest.approx(forecast["machine_seconds"] * WATTS / 3.6e6)
        assert abs(forecast["disk"] / of["spent/disk"] - 1) < 0.3
        assert forecast["usd"] == 0
        assert of["forecast/seconds"] == forecast["seconds"]
        expected["forecast/seconds"] = lambda _, value: value >= least
    if study == "two":
        expected["confirm/.*"] = lambda *_: True  # by the test of `confirm`
    total(check_metrics(run, expected), f"MLflow on study {study}")


@pytest.mark.parametrize("study", STUDIES)
def test_metrics_of_a_trial_are_those_of_its_predictions_steps_and_clock(shown, study):
    count = 0
    for run in shown.trials(study):
        if run.data.tags["tunewright.state"] == "complete":
            steps, params = steps_of(run), run.data.params
            judged = (
                int(params["training.epochs"]) if study == "promoted" else steps // 2 + steps % 2
            )
            count += check_metrics(run, metrics_of(shown, run, judged))
            train, validation = (splits_of(run)[name] for name in ("train", "validation"))
            for split, n in ((train, TRAIN), (validation, VALIDATION)):
                counts = [split[what] for what in ("rows", "examples", "long", "dropped")]
                assert counts == [n, n, 0, 0]
    bounds = defaultdict(set)  # equal trials have equal ones, whichever worker ran them
    for run in shown.trials(study):
        if run.data.tags["tunewright.state"] == "complete":
            bound = cost_of(run)["account"]["lower_bound"]
            bounds[run.data.params["training.batch_size"]].add(bound)
    assert all(len(equal) == 1 for equal in bounds.values())
    total(count, f"MLflow on trials of {study}")
