"""A headless Chromium that a test drives over pipes, by commands of the DevTools protocol."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.waiting import DEADLINE, wait_until

needs_chromium = pytest.mark.skipif(
    not shutil.which("chromium"), reason="no chromium: apt-get install chromium"
)

_OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
_OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
_OPTIONS += ["--remote-debugging-pipe"]


class Page:
    """The page of a browser: opened, read and photographed."""

    def __init__(self, command: Callable[..., dict]) -> None:
        self.command = command

    def open(self, url: str) -> None:
        """Go to an address, as a fresh visitor does."""
        self.command("Page.navigate", url="about:blank")  # else only what follows # changes
        self.command("Page.navigate", url=url)

    def ask(self, script: str) -> Any:
        """Return what an expression of JavaScript says; None where the page is not that far."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True)
        return answer.get("result", {}).get("value")

    def wait_for(self, script: str) -> Any:
        """Return what an expression says, once it is something."""
        return wait_until(lambda: self.ask(script))

    def picture(self) -> bytes:
        """Return a PNG of what is seen; nothing on the way from page to page.

        One of more than is seen resizes the page, whereupon MLflow loads the frame of an artifact
        again: it would be blank.
        """
        return base64.b64decode(self.command("Page.captureScreenshot").get("data", ""))


@contextmanager
def browser(width: int = 1600, height: int = 1200) -> Iterator[Page]:
    """Yield a page of a Chromium of its own."""
    to_it, from_it = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # It reads commands from file 3 and answers on file 4.
        script = f'exec chromium "$@" 3<&{to_it[0]} 4>&{from_it[1]}'
        own = [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *_OPTIONS, *own],
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
                yield Page(command)
            finally:
                process.terminate()
                process.wait(DEADLINE)
