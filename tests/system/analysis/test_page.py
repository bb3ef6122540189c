"""The report page: what it holds, what it must not hold, and that it opens in the MLflow UI."""

import base64
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from matplotlib import image

from pipeline.analysis.report import FILE
from tests.support.stores import artifact


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
