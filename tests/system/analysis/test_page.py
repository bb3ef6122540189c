"""The report page in a browser, within the MLflow UI."""

import base64
import io
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from matplotlib import image

from pipeline.analysis.report import FILE
from tests.support.servers import mlflow_server
from tests.support.stores import artifact
from tests.support.waiting import DEADLINE, wait_until


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium: apt-get install chromium")
@pytest.mark.draws
def test_the_page_opens_in_the_mlflow_ui(cli, tiny, runs):
    ended = cli("train", "-m", *tiny, "seed=1,2")
    assert ended.code == 0, ended.err
    (study,) = runs("study")
    run_page = f"#/experiments/{study.info.experiment_id}/runs/{study.info.run_id}"
    store = f"sqlite:///{Path('mlruns', 'mlflow.db').absolute()}"
    with mlflow_server(Path(), store) as address, browser() as command:
        command("Page.navigate", url=f"{address}/{run_page}/artifacts/{FILE}")
        # The band around the title has a colour of its own; nothing else in MLflow's UI has it.
        wait_until(lambda: blue_pixels(command("Page.captureScreenshot")) > 10_000)
        command("Page.navigate", url=artifact(study, FILE).as_uri())
        title = study.data.tags["tunewright.study"]
        shown = "document.readyState + ' ' + document.title"
        wait_until(
            lambda: f"complete {title}" in str(command("Runtime.evaluate", expression=shown))
        )


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
                process.wait(DEADLINE)
