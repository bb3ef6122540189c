"""The report page in a browser: within the MLflow UI, and narrow."""

import io
from pathlib import Path

import optuna
import pytest
from matplotlib import image
from optuna.trial import TrialState

from pipeline.analysis.report import FILE, About, study_page
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
    modes = ("", "?workflowType=machine_learning")
    store = f"sqlite:///{Path('mlruns', 'mlflow.db').absolute()}"
    with mlflow_server(Path(), store) as address, browser() as page:
        for mode in modes:
            page.open(f"{address}/{run_page}/artifacts/{FILE}{mode}")
            # The band around the title has a colour of its own; nothing else in MLflow's UI has it.
            wait_until(lambda: blue_pixels(page.picture()) > 10_000)
        page.open(artifact(study, FILE).as_uri())
        title = study.data.tags["tunewright.study"]
        page.wait_for(f"document.readyState === 'complete' && document.title.startsWith({title!r})")


@needs_chromium
@pytest.mark.draws
def test_tables_scroll_break_no_word_and_are_sorted_by_a_click(working_folder):
    file = working_folder / FILE
    file.write_text(study_page(study_of_many_keys(), About(("val/f1_macro",), "complete", {})))
    with browser(width=520) as page:  # as the frame within MLflow's UI is on a laptop
        page.open(file.as_uri())
        page.wait_for("document.querySelector('[aria-sort]') !== null")
        page_is_wide, tables = page.ask(SCROLLED)
        assert (page_is_wide, tables[0]) == (False, True)  # the best trials, not what is around it
        assert page.ask(BROKEN) == []
        first = page.ask(NUMBERS)
        page.ask(CLICK)
        assert page.ask(NUMBERS) == sorted(first, key=float, reverse=True) != first
        page.ask(CLICK)
        assert page.ask(NUMBERS) == sorted(first, key=float)


# Whether what is wider than its place scrolls: the page, and each table.
SCROLLED = """[document.documentElement, ...document.querySelectorAll('.wide')]
    .map(part => part.scrollWidth > part.clientWidth)
    .reduce((found, one, i) => i ? [found[0], [...found[1], one]] : [one, []], [])"""
# The words of tables that are on two lines.
BROKEN = """[...document.querySelectorAll('th, td')].flatMap(cell => [...cell.childNodes])
    .filter(node => node.nodeType === Node.TEXT_NODE)
    .flatMap(node => [...node.data.matchAll(/[^\\s-]+/g)].map(word => {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map(box => box.top));
        return lines.size > 1 ? [word[0]] : [];
    })).flat()"""
NUMBERS = "[...document.querySelectorAll('.best tbody th')].map(cell => cell.textContent)"
CLICK = "document.querySelector('.best thead th').click()"


def study_of_many_keys() -> optuna.Study:
    """Return a study of 12 trials over 9 keys, one of which failed."""
    study = optuna.create_study(study_name="wide", direction="maximize")
    for number in range(12):
        trial = study.ask()
        for key in range(9):
            trial.suggest_float(f"a_group_of_parameters.one_of_them_{key}", 0.0, 1.0)
        if number == 5:
            trial.set_user_attr("reason", "error: ValueError: unreasonable_parameters_were_found")
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, number * 7 % 12)
    return study


def blue_pixels(shot: bytes) -> int:
    """Count the pixels of a picture that have the colour of the page's title band."""
    if not shot:  # on the way from page to page there is none
        return 0
    pixels = image.imread(io.BytesIO(shot))[:, :, :3] * 255
    return int((abs(pixels - [0x00, 0x72, 0xB2]) < 2).all(axis=2).sum())
