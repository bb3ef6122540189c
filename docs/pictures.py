"""Take the pictures of docs/review.md: clicks through a search in the MLflow UI, in a browser.

    .venv/bin/python -m docs.pictures                          # runs `tunewright sweep demo` first
    .venv/bin/python -m docs.pictures --store FOLDER/mlruns    # of the latest study of a store

Run it from the top of the repository.

Needs what `make test` installs, and chromium. Each walk starts at the link of `tunewright ui` and
ends where its picture is taken; it fails where there is nothing to click.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pipeline.config.tracking import TrackingConfig
from pipeline.tracking import Store, tags
from pipeline.tracking.runs import run_of
from pipeline.tracking.studies import all_studies
from pipeline.tracking.views import ensure_view
from tests.support.browser import Page, browser
from tests.support.mlflow_ui import click
from tests.support.servers import mlflow_server

REPO = Path(__file__).resolve().parent.parent

SEEN, SHOWN = (1440, 1130), (1200, 870)  # pixels: in the browser, which takes 87 of them; in docs/
STEP = 15  # between two shades of red, green or blue: 18 are enough, in half the bytes
STILL = 3  # pictures that must be the same, a second apart
CHARTS = "[value=CHART]"  # the second of the three signs above the table
CLOSE = "[data-component-id='mlflow.assistant.chat_panel.close']"
MODE = "Model training"  # the page of a run that is opened from the table would be that of GenAI


class Walk(NamedTuple):
    """What is clicked one after the other, and what is seen in the end, in JavaScript."""

    clicks: tuple[str, ...]
    end: str


def walks(trial: str, study_id: str) -> dict[str, Walk]:
    """Return the walks by the names of their pictures: from the best trial's run to its study."""
    study = f"[href*='/runs/{study_id}?']"  # its name
    return {
        "table": Walk((), "document.querySelector('.ag-row .ag-cell')"),
        "charts": Walk((CHARTS,), "document.querySelectorAll('.js-plotly-plot .trace')[1]"),
        "trial": Walk((trial,), said("Parameters (")),
        "rows": Walk((trial, "Predictions", "correct"), said("View as table")),
        "report": Walk((trial, study, "Report"), "document.querySelector('iframe')"),
        "model": Walk((trial, "model"), said("Model ID")),
    }


def said(text: str) -> str:
    """Return whether the page has a text, in JavaScript."""
    return f"document.body.innerText.includes({text!r})"


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="of a search that is over")
    given = parser.parse_args().store
    with tempfile.TemporaryDirectory() as folder:
        if given is None:
            tunewright = Path(sys.executable).with_name("tunewright")
            subprocess.run([tunewright, "sweep", "demo"], cwd=folder, check=True)
        store = Store(TrackingConfig(str(given or Path(folder, "mlruns")), None, "tunewright"))
        study = all_studies(store)[0]
        best = run_of(store, study.data.tags[tags.BEST_RUN]).info.run_name
        with mlflow_server(Path(folder), store.uri) as address, browser(*SEEN) as page:
            page.open(address)
            click(page, CLOSE)  # the panel that MLflow opens, once, takes a quarter of the page
            click(page, MODE)
            for name, walk in walks(best, study.info.run_id).items():
                page.open(f"{address}/{ensure_view(store, study)}")
                for what in walk.clicks:
                    click(page, what)
                page.wait_for(f"Boolean({walk.end})")
                write(name, still(page))


def still(page: Page) -> bytes:
    """Return a picture of a page that changes no more."""
    shots: list[bytes] = []
    while len(shots) < STILL or len({*shots[-STILL:]}) > 1 or not shots[-1]:
        time.sleep(1)
        shots.append(page.picture())
    return shots[-1]


def write(name: str, shot: bytes) -> None:
    """Write a picture, small and of few colours."""
    path = REPO / "docs" / f"review-{name}.png"
    small = Image.open(io.BytesIO(shot)).convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS)
    small.point([STEP * round(shade / STEP) for shade in range(256)] * 3).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
