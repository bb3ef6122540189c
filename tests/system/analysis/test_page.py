"""The report page in a browser, within the MLflow UI."""

import io
from pathlib import Path

import pytest
from matplotlib import image

from pipeline.analysis.report import FILE
from tests.support.browser import browser, needs_chromium
from tests.support.servers import mlflow_server
from tests.support.stores import artifact
from tests.support.waiting import wait_until


@needs_chromium
@pytest.mark.draws
def test_the_page_opens_in_the_mlflow_ui(cli, tiny, runs):
    ended = cli("train", "-m", *tiny, "seed=1,2")
    assert ended.code == 0, ended.err
    (study,) = runs("study")
    run_page = f"#/experiments/{study.info.experiment_id}/runs/{study.info.run_id}"
    store = f"sqlite:///{Path('mlruns', 'mlflow.db').absolute()}"
    with mlflow_server(Path(), store) as address, browser() as page:
        page.open(f"{address}/{run_page}/artifacts/{FILE}")
        # The band around the title has a colour of its own; nothing else in MLflow's UI has it.
        wait_until(lambda: blue_pixels(page.picture()) > 10_000)
        page.open(artifact(study, FILE).as_uri())
        title = study.data.tags["tunewright.study"]
        page.wait_for(f"document.readyState === 'complete' && document.title.startsWith({title!r})")


def blue_pixels(shot: bytes) -> int:
    """Count the pixels of a picture that have the colour of the page's title band."""
    if not shot:  # on the way from page to page there is none
        return 0
    pixels = image.imread(io.BytesIO(shot))[:, :, :3] * 255
    return int((abs(pixels - [0x00, 0x72, 0xB2]) < 2).all(axis=2).sum())
