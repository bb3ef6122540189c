"""What the pages of the MLflow UI show, read from what a browser has drawn."""

import json
from typing import Any

from tests.support.browser import Page

# Headers and cells stand in the document in another order than on the page.
_TABLE = """(() => {
    const inOrder = cells => [...cells].sort(
        (a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left);
    const rows = [];
    for (const cell of inOrder(document.querySelectorAll('.ag-row .ag-cell'))) {
        const row = cell.closest('.ag-row').getAttribute('row-index');
        (rows[row] ||= {})[cell.getAttribute('col-id')] = cell.innerText.split('\\n').at(-1);
    }
    const columns = inOrder(document.querySelectorAll('.ag-header-cell'));
    return JSON.stringify({columns: columns.map(cell => cell.innerText), rows: rows});
})()"""
# What a card says, what Plotly drew, and the axes and painted pixels of parallel coordinates.
_CARDS = """JSON.stringify(
    [...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')].map(card => ({
        title: card.innerText.split('\\n')[0],
        lines: [...card.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data.map(
            line => ({x: line.x, y: line.y, names: line.name || line.text}))),
        axes: [...card.querySelectorAll('.dimension')].map(axis => (
            axis.querySelector('.axis-label-tooltip') || axis.querySelector('.label')).textContent),
        painted: [...card.querySelectorAll('canvas')].map(canvas =>
            canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
                .reduce((count, part, i) => count + (i % 4 === 3 && part > 0), 0)
        ).reduce((a, b) => a + b, 0),
    })))"""
_SECTIONS = """JSON.stringify([...document.querySelectorAll(
    '[data-testid=experiment-view-compare-runs-section-header]')].map(head => head.innerText))"""
# The first part of a page that says a text, or that a selector names; never in a window of its own.
_CLICK = """(what => {
    const says = part => part.innerText?.trim() === what;
    let found = what.startsWith('[') ? document.querySelector(what)
        : [...document.querySelectorAll('body *')].find(says);
    if (!found) return false;
    for (let inner = found; inner; inner = [...inner.children].find(says)) found = inner;
    found.closest('a')?.removeAttribute('target');
    found.click();
    return true;
})"""


def click(page: Page, what: str) -> None:
    """Click what says this text, once it is there; or what a selector in brackets names."""
    page.wait_for(f"{_CLICK}({json.dumps(what)})")


def table(page: Page) -> dict[str, Any]:
    """Return the table of runs: its columns, and each row's cells by the ids of columns."""
    return dict(json.loads(page.ask(_TABLE) or "{}"))


def cards(page: Page) -> list[dict[str, Any]]:
    """Return the charts that are open."""
    return list(json.loads(page.ask(_CARDS) or "[]"))


def sections(page: Page) -> list[str]:
    """Return the names of the sections of charts, with how many each has."""
    return [" ".join(head.split()) for head in json.loads(page.ask(_SECTIONS) or "[]")]
