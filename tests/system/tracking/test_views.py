"""A study's view as a browser draws it in the MLflow UI: its table and its charts."""

from collections.abc import Collection
from pathlib import Path

import pytest

from pipeline.config.tracking import TrackingConfig
from pipeline.tracking import Store
from pipeline.tracking.views import CHARTS, ensure_view
from tests.support.browser import browser, needs_chromium
from tests.support.mlflow_ui import cards, sections, table
from tests.support.servers import mlflow_server
from tests.support.waiting import wait_until

SCORE = "val/f1_macro"
KEYS = ["optimizer.learning_rate", "optimizer"]


@pytest.fixture
def store(cli, tiny) -> Store:
    """A store with one study of two searched parameters, one of them a group."""
    searched = ("optimizer=adamw,sgd", "optimizer.learning_rate=3e-2,1e-3")
    learning = ("training.epochs=4", "training.eval_every=1.0", "training.batch_size=8")
    ended = cli("train", "-m", *tiny, *learning, *searched)
    assert ended.code == 0, ended.err
    return Store(TrackingConfig(dir="mlruns", uri=None, experiment="tunewright"))


@needs_chromium
def test_link_opens_the_trials_best_first_and_three_charts_of_them(store, runs):
    (study,), trials = runs("study"), {run.info.run_name: run for run in runs("trial")}
    with mlflow_server(Path(), store.uri) as address, browser() as page:
        link = f"{address}/{ensure_view(store, study)}"
        page.open(link)
        shown = wait_until(lambda: (t := table(page)) and len(t["rows"]) == len(trials) and t)
        page.open(f"{link}&compareRunsMode=CHART")
        parallel, course, scatter = wait_until(lambda: drawn(cards(page), trials))
        first, *others = sections(page)

    names = ["Run Name", "Created", SCORE, *KEYS, "tunewright.state", "Duration"]
    assert [name for name in shown["columns"] if name] == names
    scores = [float(row[f"metrics.`{SCORE}`"]) for row in shown["rows"]]
    assert scores == sorted((run.data.metrics[SCORE] for run in trials.values()), reverse=True)
    assert len(set(scores)) > 1
    for row in shown["rows"]:
        run = trials[row["attributes.`Run Name`"]]
        assert float(row[f"metrics.`{SCORE}`"]) == run.data.metrics[SCORE]
        assert [row[f"params.`{key}`"] for key in KEYS] == [run.data.params[key] for key in KEYS]
        assert row["tags.`tunewright.state`"] == "complete"
        assert float(row["duration"].rstrip("s")) > 0

    assert parallel["axes"] == [*KEYS, SCORE]
    for line in course["lines"]:  # each is drawn twice: to be smoothed and as it is
        points = list(zip(line["x"], line["y"], strict=True))
        assert points == history(store, trials[line["names"]])
    (dots,) = scatter["lines"]
    found = zip(dots["names"], dots["x"], dots["y"], strict=True)
    assert {name: (x, y) for name, x, y in found} == {
        name: (run.data.params[KEYS[0]], run.data.metrics[SCORE]) for name, run in trials.items()
    }
    assert first == f"{CHARTS} (3) Add chart"
    assert all("Add chart" not in other for other in others)  # they are closed
    assert all("(0)" not in other for other in others)


def drawn(found: list[dict], trials: Collection[str]) -> list[dict]:
    """Return the charts once all of them show all trials."""
    if len(found) != 3 or not found[0]["painted"]:
        return []
    return found if {line["names"] for line in found[1]["lines"]} == {*trials} else []


def history(store, run) -> list[tuple[int, float]]:
    points = store.client.get_metric_history(run.info.run_id, SCORE)
    return [(p.step, p.value) for p in sorted(points, key=lambda p: (p.step, p.timestamp))]
