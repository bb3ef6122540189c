"""Tables, pages and verdicts, compared with the same quantities computed from primary records."""

import csv
import html
import io
import re
from datetime import datetime
from statistics import fmean, stdev

import pytest

from tests.support.shown import (
    MEMBERS,
    STUDIES,
    TEST,
    TRAIN,
    N,
    best_scores,
    check_lines,
    check_scores,
    clock,
    f1_of,
    ignore,
    parameters,
    predictions,
    ran,
    same,
    scores,
    seconds_of,
    states,
    total,
)
from tests.support.stores import artifact, cost_of

RATES, BATCHES = (0.03, 0.001), (8, 16)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("study", STUDIES)
def test_tables_of_a_study_have_the_scores_and_seconds_of_its_trials(shown, study):
    runs = {run.info.run_id: run for run in shown.trials(study)}
    count = 0
    for row in table(shown.said(f"compare-{study}")):
        run = runs[row["run_id"]]
        of = run.data.metrics
        assert row["trial"] == run.data.tags["tunewright.trial"]
        assert row["state"] == run.data.tags["tunewright.state"]
        if row["state"] == "complete":
            same(row["val/f1_macro"], best_scores(run)["f1_macro"], digits=12)
            same(row["seconds"], of["cost/train_seconds"] + of["cost/evaluate_seconds"], digits=12)
            of_seeds = f1_of(shown, study, int(row["trial"]))
            same(row.get("val/f1_macro mean", row["val/f1_macro"]), fmean(of_seeds), digits=12)
        elif row["state"] == "pruned":
            same(row["val/f1_macro"], f1_of(shown, study, int(row["trial"]))[0], digits=12)
        else:
            shown_scores = row["val/f1_macro"], row.get("val/f1_macro mean", "")
            assert (row["state"], *shown_scores) == ("failed", "", "")
        if row["state"] == "complete" and "cost/parameters" in row:
            assert float(row["cost/parameters"]) == parameters(run)
        searched = [key for key in row if "." in key]
        assert all(row[key] == run.data.params[key] for key in searched if "rate" not in key)
        count += len(row)
    for row in table(artifact(shown.study(study), "trials.csv").read_text(encoding="utf-8")):
        number = int(row["trial"])
        assert row["state"] == states(shown, study)[number]
        assert row["run_id"] in runs
        if row["state"] == "failed":
            assert row["val/f1_macro"] == ""
        else:
            f1, second = f1_of(shown, study, number), row.get("cost/parameters")
            same(row["val/f1_macro"], fmean(f1), digits=12)
            assert not second or float(second) == parameters(runs[row["run_id"]])
            width = row.get("val/f1_macro_sd")
            assert width is None or float(width) == pytest.approx(stdev(f1))
        count += len(row)
    total(count, f"tables of study {study}")


@pytest.mark.parametrize("study", STUDIES)
def test_best_names_the_best_trial_and_its_score(shown, study):
    best = shown.study(study).data.tags["tunewright.best_run_id"]
    run = next(r for r in shown.trials(study) if r.info.run_id == best)
    number = int(run.data.tags["tunewright.trial"])
    every = {
        n: fmean(f1_of(shown, study, n))
        for n, state in enumerate(states(shown, study))
        if state == "complete"
    }
    assert every[number] == max(every.values())

    def seeds(found: re.Match[str]) -> None:
        assert (found[1], found[2]) == ("2", run.data.params["seed"])
        same(found[3], best_scores(run)["f1_macro"])
        same(found[4], parameters(run))

    entries = [
        (r"best +trial (\d+)", lambda f: check_equal(int(f[1]), number)),
        (
            rf"score +val/f1_macro(?:, cost/parameters)? = {MEMBERS}",
            lambda f: check_scores(shown, study, number, f.groups()),
        ),
        (rf"run .*{best}", ignore),
        (rf"model .*/models/{run.data.tags['tunewright.model']}/artifacts", ignore),
        (r"run again  tunewright train .*", ignore),
    ]
    if study == "several":
        entries.append((r"front +trial (\d+): .*", lambda f: check_equal(int(f[1]), number)))
        entries.append((rf"the mean over (\d) seeds; .* seed (\d+), which scored {N}, {N}", seeds))
    else:
        entries.append((r"([a-z_.]+) = (.*)", lambda f: check_equal(f[2], run.data.params[f[1]])))
    total(check_lines(shown.said(f"best-{study}"), entries), f"best {study}")


def check_equal(found, expected) -> None:
    assert found == expected


def test_runs_have_their_times_and_scores(shown):
    every = {r.info.run_id: r for kind in ("study", "trial", "run") for r in shown.runs(kind)}
    listed, count = table(shown.said("runs")), 0
    for row in listed:
        run = every[row["run_id"]]
        if row["kind"] == "study":  # of one start; as MLflow has it, in milliseconds
            assert abs(float(row["run_seconds"]) - clock(run)) < 0.002
        else:
            took = ran(shown, run) if row["kind"] == "trial" else clock(run)
            same(row["run_seconds"], took, digits=9)
        start = datetime.fromisoformat(row["start"]).timestamp()
        assert start == run.info.start_time // 1000
        study = run.data.tags.get("tunewright.study")
        if row["kind"] == "study":
            complete = [n for n, s in enumerate(states(shown, study)) if s == "complete"]
            score = max(fmean(f1_of(shown, study, n)) for n in complete)
        elif row["state"] == "pruned":
            score = f1_of(shown, study, int(row["trial"]))[0]
        elif row["state"] == "complete":
            score = best_scores(run)["f1_macro"]
        if row["state"] == "failed":
            assert row["score"] == ""
        else:
            same(row["score"], score, digits=12)
        count += len(row)
    studies = [run.data.tags.get("tunewright.study", "") for run in every.values()]
    assert len(listed) == sum(not study.startswith("confirm") for study in studies)  # made later
    total(count, "runs")


def test_plan_counts_the_jobs_and_names_their_points(shown):
    grid = [(rate, size) for rate in RATES for size in BATCHES]

    def point(found: re.Match[str]) -> None:
        assert (float(found[2]), int(found[3])) == grid[int(found[1])]

    entries = [
        (r"study two: a grid of (4) points, (4) trials by GridSampler, 2 workers .*", ignore),
        (r"[a-z.]+_(?:rate|size): .*", ignore),
        (rf"(\d+) +{N} +(\d+)", point),
        (r"dry run: all (4) jobs can be composed and are valid; .*", ignore),
    ]
    total(check_lines(shown.said("plan"), entries), "plan")


def test_confirm_judges_the_winner_by_the_predictions_on_the_test_split(shown):
    def runs_of(study: str) -> list:
        return [r for r in shown.runs("trial") if r.data.tags["tunewright.study"] == study]

    metrics = shown.study("two").data.metrics
    winner, default = runs_of("confirm-two-trial-0"), runs_of("confirm-two-default")
    truth = predictions(winner[0])["label"]
    f1 = [[best_scores(run)["f1_macro"] for run in runs] for runs in (winner, default)]
    own, other = (fmean(values) for values in f1)
    validation = fmean(run.data.metrics["val/f1_macro"] for run in winner)
    seen = max(fmean(f1_of(shown, "two", n)) for n in range(4))
    most = scores(truth, ["pos"] * TEST)["f1_macro"]

    def report(found: re.Match[str]) -> None:
        same(found[1], own)
        same(found[2], stdev(f1[0]))

    def gap(found: re.Match[str]) -> None:
        same(found[1], seen)
        same(found[2], validation)
        same(found[3].lstrip("+"), seen - validation)

    def against(found: re.Match[str]) -> None:
        known = {"the default config": own - other, "the most frequent label": own - most}
        assert 0 <= float(found[4]) <= 1
        assert int(found[5]) == TEST == len(truth)
        if found[1] in known:
            same(found[2].lstrip("+"), known[found[1]])

    said = shown.said("confirm")
    of_seeds = re.findall(rf"(?m)^mean over 3 seeds: {N} ± {N}$", said)
    so_far = set(re.findall(r"; 3 of 3 done, (mean over 3 seeds: .*)", said))
    assert so_far == set(re.findall(r"(?m)^mean over 3 seeds: .*", said))
    for (mean, spread), runs in zip(of_seeds, (winner, default), strict=True):
        values = [run.data.metrics["val/f1_macro"] for run in runs]
        same(mean, fmean(values))
        same(spread, stdev(values), digits=2)
    assert "best: trial" not in said
    lines = said[said.index("winner, trial") :]
    entries = [
        (rf"winner, trial 0: test/f1_macro {N} ± {N} on 3 fresh seeds", report),
        (
            rf"selection gap: the search saw {N}, fresh seeds give {N} on the same validation rows "
            r"\(([-+][\d.]+)\)",
            gap,
        ),
        (
            rf"not distinguishable from (.*) \(([-+][\d.]+) ± {N} f1_macro, p = {N}, "
            r"on (\d+) rows\)",
            against,
        ),
        (
            r"(\d+) runs of this store have read the test split so far",
            lambda f: check_equal(int(f[1]), len(winner) + len(default)),
        ),
    ]
    count = check_lines(lines, entries)
    logged = {key: value for key, value in metrics.items() if key.startswith("confirm/")}
    total(count + 2 * len(of_seeds) + len(logged), "confirm")
    same(re.search(rf"default config .*p = {N}", lines)[1], logged.pop("confirm/p"), digits=2)
    assert logged == pytest.approx(
        {
            "confirm/mean": own,
            "confirm/selection_gap": seen - validation,
            "confirm/difference": own - other,
        }
    )


def lines_of_page(page: str) -> str:
    """Return the texts of a page without its charts, a line each: cells are divided by bars."""
    body = re.sub(r"<svg.*?</svg>", "", page[page.index("<body") :], flags=re.DOTALL)
    for tag, sign in (("/(?:td|th|dt)", " | "), ("/(?:p|tr|dd|h[12])", "\n"), ("br", "\n")):
        body = re.sub(rf"<{tag}>", sign, body)
    return html.unescape(re.sub(r"<[^>]*>", "", body))


@pytest.mark.parametrize("study", STUDIES)
def test_page_of_a_study_shows_its_trials_costs_and_labels(shown, study):
    run, order = shown.study(study), states(shown, study)
    best, costs = int(run.data.tags["tunewright.best_trial"]), cost_of(run)
    judged = predictions(shown.trials(study)[best])["label"]
    units = {
        "seconds by the clock": "seconds",
        "seconds of all workers": "machine_seconds",
        "bytes of artifacts": "disk",
        "kWh": "kwh",
        "USD": "usd",
    }

    def counts(found: re.Match[str]) -> None:
        assert int(found[1]) == len(order)
        for count, state in re.findall(r"(\d+) (\w+)", found[2]):
            assert int(count) == order.count(state)

    def row(found: re.Match[str]) -> None:
        number, cells = int(found[1]), found[2].split(" | ")
        same(cells[-1], seconds_of(shown, study, number))
        same(cells[0].split()[0], fmean(f1_of(shown, study, number)))

    def cost(found: re.Match[str]) -> None:
        expected, spent = (costs[kind][units[found[1]]] for kind in ("forecast", "spent"))
        same(found[2], expected, digits=4 if expected < 1e4 else 9)
        same(found[3], spent, digits=4 if spent < 1e4 else 9)
        if found[4]:
            same(found[4].lstrip("+"), 100 * (spent / expected - 1))

    def spent(found: re.Match[str]) -> None:
        of = costs["spent"][units[found[1]]]
        same(found[2], of, digits=4 if of < 1e4 else 9)

    def label(found: re.Match[str]) -> None:
        assert int(found[3]) == judged.count(found[1])
        same(found[4], int(found[2]) / TRAIN, digits=4)

    def fact(found: re.Match[str]) -> None:
        same(found[2], {"val": best_f1, "cost": parameters(shown.trials(study)[best])}[found[1]])

    best_f1 = fmean(f1_of(shown, study, best))
    entries = [
        (r"(\d+) trials ended: (.*)", counts),
        (r"Best: trial (\d+).*", lambda f: check_equal(int(f[1]), best)),
        (rf"(val|cost)/\w+ \| {N}.*", fact),
        (
            r"All the (\d+) complete trials.*",
            lambda f: check_equal(int(f[1]), order.count("complete")),
        ),
        (r"(\d+) \| (.*) \|", row),
        (r".*(?:MLflow run|tunewright train|f1_macro \(higher| \| run seconds \|).*", ignore),
        (r"(pos|neg) \| (\d+) \| (\d+) \| ([\d.]+) \|", label),
        *OTHERS[study],
    ]
    if study == "promoted":
        entries.append((rf"({'|'.join(units)}) \| {N} \|", spent))
    else:
        entries.append(
            (rf"({'|'.join(units)}) \| {N} \| {N} \| (?:({N[1:-1]}|\+{N[1:-1]})%)? ?\|", cost)
        )
    page = artifact(run, "report.html").read_text(encoding="utf-8")
    total(check_lines(lines_of_page(page), entries), f"page of {study}")
    ends = [max(t.intermediate_values, default=0) for t in shown.journal(study)]
    epochs = int(shown.trials(study)[best].data.params["training.epochs"])
    assert ends[best] == 100 * epochs  # the curve of the best goes to its end


# Lines that repeat what other tests check, or name what is searched.
OTHERS = {
    "two": [
        (r"(?:optimizer|training)\.\w+ \| .*", ignore),
        (r"Not shown: only 4 complete trials; .*", ignore),
        (r"Trial 0 on 3 fresh seeds: .*", ignore),
        (r"verdict \| .*", ignore),
        (r"not distinguishable from .*", ignore),
    ],
    "several": [
        (r"No other trial beats these .*", ignore),
        (r"diverged \| 1 \| 1 \| .*", ignore),
    ],
    "promoted": [(r"optimizer\.\w+ \| .*", ignore)],
}
