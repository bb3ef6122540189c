"""The report page: what it holds, what it must not hold, and that it opens in the MLflow UI."""

import base64
import io
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import urlopen

import optuna
import pytest
from matplotlib import image
from optuna.trial import TrialState

from pipeline.analysis.report import FILE, About, study_page
from pipeline.common.secrets import masked
from pipeline.search.study.trials import PAUSED_AT
from tests.support.stores import artifact

EVIL = "<script>alert('$x$')</script>"
PROMOTE = {"_target_": "pipeline.search.pruners.PauseAndPromote", "min_resource": 0.5}


def made(count: int, objectives: int = 1) -> optuna.Study:
    """Return a study in memory; of four trials one is pruned, one failed, and two are complete."""
    directions = ["maximize", "minimize"][:objectives]
    study = optuna.create_study(
        study_name=f"tweets {EVIL}",
        directions=directions,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    for number in range(count):
        trial = study.ask()
        rate = trial.suggest_float("optimizer.learning_rate", 1e-5, 1e-2, log=True)
        optimizer = trial.suggest_categorical("optimizer", ["sgd", EVIL])
        if optimizer == "sgd":
            trial.suggest_float("optimizer.momentum", 0.0, 0.99)
        trial.suggest_categorical("seed", [42])
        trial.set_user_attr("run_id", f"run-of-{number}")
        trial.set_user_attr("overrides", [f"optimizer.learning_rate={rate}", "data.train=a b.csv"])
        for step in (50, 100, 150):
            study._storage.set_trial_intermediate_value(trial._trial_id, step, step * rate)
        if number % 4 == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 4 == 2:
            trial.set_user_attr("reason", f"error: ValueError: {EVIL}")
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [100 * rate, float(number)][:objectives])
    return study


def page_of(study: optuna.Study, *objectives: str, pruner=None) -> str:
    return study_page(study, About(objectives or ("val/f1_macro",), "complete", pruner or {}))


class Reader(HTMLParser):
    """Takes a page apart: its tags with their attributes, its sections' headings, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def section(self, title: str) -> str:
        return self.text.partition(title)[2]


def test_the_page_says_what_was_found():
    study = made(40)
    waiting = study.ask()
    study._storage.set_trial_intermediate_value(waiting._trial_id, 50, 0.1)
    waiting.set_user_attr(PAUSED_AT, 50)
    page = Reader(page_of(study, pruner=PROMOTE))
    assert "20 complete · 10 pruned · 10 failed · 1 paused" in page.text
    best = study.best_trial
    assert f"Best: trial {best.number}" in page.text
    assert f"MLflow run run-of-{best.number}" in page.text
    rate = best.params["optimizer.learning_rate"]
    assert f"tunewright train optimizer.learning_rate={rate} 'data.train=a b.csv'" in page.text
    head, _, _ = page.section("Best trials").partition("tunewright train")
    assert "momentum" in head
    assert "seed" not in head  # it does not vary
    assert "The best 10 of 20" in head
    assert f"error102error: ValueError: {EVIL}" in page.section("Failures")
    charts = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert len(charts) == 5  # history, importances, parallel coordinates, slices, curves
    assert {"best so far", "pruned", "paused", "epochs"} <= set(re.findall(r"[\w ]+", page.text))


def test_the_page_is_escaped_and_asks_for_nothing():
    page = page_of(made(40), pruner=PROMOTE)
    tags = Reader(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "base"}
    asked = [v for _, attrs in tags for k, v in attrs.items() if k.endswith(("src", "href"))]
    assert asked
    assert all(v.startswith(("#", "data:")) for v in asked)
    assert not any(k.startswith("on") for _, attrs in tags for k in attrs)
    assert not re.search(r"url\((?!#)|@import", page)
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))  # or one chart would be drawn with another's marks


def test_several_objectives_have_a_front():
    study = made(40, objectives=2)
    study.tell(study.ask(), [1e6, 1e6])  # the best by the first, and without any parameter
    page = Reader(page_of(study, "val/f1_macro", "cost/train_seconds"))
    numbers = ", ".join(str(t.number) for t in sorted(study.best_trials, key=lambda t: t.values))
    assert f"beats in every objective: {numbers}." in page.section("Pareto front")
    assert "Best: trial 40, by the first objective" in page.text


def test_a_front_is_of_the_trials_that_keep_their_constraints():
    study = made(8, objectives=2)
    too_large = study.ask()
    too_large.set_constraint("oom", 1.0)
    study.tell(too_large, [1e6, 0.0])
    page = Reader(page_of(study, "val/f1_macro", "cost/train_seconds"))
    assert "8" not in page.section("Pareto front").partition("objective:")[2].partition(".")[0]
    assert "oom by 1" in page.text


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_cannot_be_shown_is_said(count):
    page = Reader(page_of(made(count)))
    assert "Not shown: " in page.section("Parameter importances")
    assert ("No trial is complete." in page.text) == (count == 0)


def test_a_page_of_many_trials_stays_small():
    assert len(page_of(made(50))) < 500_000
    assert len(page_of(made(300))) < 500_000


def test_a_search_leaves_its_page_and_report_makes_it_again(cli, tiny, runs):
    rates = "optimizer.learning_rate=1e-3,1e-2"
    own = [o for o in tiny if not o.startswith("optimizer.")]
    assert cli("train", "-m", *own, rates, "hydra.sweeper.study_name=mine").code == 0
    (study,) = runs("study")
    page = artifact(study, FILE)
    first = page.read_text()
    best = study.data.tags["tunewright.best_run_id"]
    assert f"MLflow run {best}" in Reader(first).text
    assert cli("best", "mine").out.rpartition("run again")[2].strip() in Reader(first).text
    page.unlink()
    again = cli("report", "mine")
    assert again.out.strip() == str(page)
    assert page.read_text() == first
    assert cli("report", "min").code == 0  # how it begins

    Path("mlruns/studies/mine/study.journal").rename("elsewhere.journal")
    lost = cli("report", "mine")
    assert lost.code == 2
    assert "hydra.sweeper.storage=" in lost.err
    assert not Path("mlruns/studies/mine/study.journal").exists()  # looking makes nothing
    assert cli("report", "mine", "hydra.sweeper.storage=elsewhere.journal").code == 0


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("/a/study.journal", "/a/study.journal"),
        ("sqlite:///study.db", "sqlite:///study.db"),
        ("postgresql+psycopg://me:pw@host/db", "postgresql+psycopg://me:***@host/db"),
        ("mysql://host/db?ssl=1&password=pw", "mysql://host/db?ssl=1&password=***"),
    ],
)
def test_a_storage_is_recorded_without_its_secrets(storage, shown):
    assert masked(storage) == shown


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(store: str) -> Iterator[str]:
    """Yield the address of an MLflow server over a store that is there."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with Path("server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", seconds=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(url: str, seconds: float) -> None:
    stop = time.monotonic() + seconds
    while True:
        try:
            urlopen(url, timeout=1).close()
        except OSError:
            assert time.monotonic() < stop, Path("server.log").read_text()
            time.sleep(0.25)
        else:
            return


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium: apt-get install chromium")
def test_the_page_opens_in_the_mlflow_ui(cli, tiny, runs):
    ended = cli("train", "-m", *tiny, "seed=1,2")
    assert ended.code == 0, ended.err
    (study,) = runs("study")
    run_page = f"#/experiments/{study.info.experiment_id}/runs/{study.info.run_id}"
    store = f"sqlite:///{Path('mlruns', 'mlflow.db').absolute()}"
    with mlflow_server(store) as address, browser() as command:
        command("Page.navigate", url=f"{address}/{run_page}/artifacts/{FILE}")
        # The band around the title has a colour of its own; nothing else in MLflow's UI has it.
        stop = time.monotonic() + 60
        while blue_pixels(command("Page.captureScreenshot")) < 10_000:
            assert time.monotonic() < stop, "the MLflow UI does not show the page"
            time.sleep(0.5)
        command("Page.navigate", url=artifact(study, FILE).as_uri())
        title = study.data.tags["tunewright.study"]
        shown = "document.readyState + ' ' + document.title"
        while f"complete {title}" not in str(command("Runtime.evaluate", expression=shown)):
            assert time.monotonic() < stop + 20, "the page has another title"
            time.sleep(0.2)


def blue_pixels(shot: dict) -> int:
    """Count the pixels of a screenshot that have the colour of the page's title band."""
    if "data" not in shot:  # on the way from page to page there is none
        return 0
    pixels = image.imread(io.BytesIO(base64.b64decode(shot["data"])))[:, :, :3] * 255
    return int((abs(pixels - [0x00, 0x72, 0xB2]) < 2).all(axis=2).sum())


@contextmanager
def browser() -> Iterator[Callable[..., dict]]:
    """Yield what gives commands of the DevTools protocol to a page of a Chromium of its own."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += ["--window-size=1600,1200", "--remote-debugging-pipe"]
    to_it, from_it = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # It reads commands from file 3 and answers on file 4.
        script = f'exec chromium "$@" 3<&{to_it[0]} 4>&{from_it[1]}'
        process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *options, f"--user-data-dir={profile}"],
            pass_fds=(to_it[0], from_it[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_it[0])
        os.close(from_it[1])
        with open(to_it[1], "wb", buffering=0) as orders, open(from_it[0], "rb") as answers:
            numbers = itertools.count(1)
            session: dict[str, str] = {}

            def command(method: str, **params) -> dict:
                number = next(numbers)
                order = {"id": number, "method": method, "params": params, **session}
                orders.write(json.dumps(order).encode() + b"\0")
                while True:
                    answer = json.loads(b"".join(iter(lambda: answers.read(1), b"\0")))
                    if answer.get("id") == number:
                        return answer.get("result", {})

            try:
                target = command("Target.createTarget", url="about:blank")["targetId"]
                attached = command("Target.attachToTarget", targetId=target, flatten=True)
                session["sessionId"] = attached["sessionId"]
                yield command
            finally:
                process.terminate()
                process.wait(timeout=20)
