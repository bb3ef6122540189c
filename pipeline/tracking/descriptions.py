"""Descriptions of runs, in Markdown, as the MLflow UI shows them above a run's metrics.

What they say is read from the record. What a user wrote instead stays.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.common.text import printable
from pipeline.tracking import tags
from pipeline.tracking.context import NOTE
from pipeline.tracking.names import short_value
from pipeline.tracking.overview import goals_of, objectives_of, score_of
from pipeline.tracking.runs import run_of, seek_run
from pipeline.tracking.studies import searched_keys
from pipeline.tracking.views import view_link

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run
    from pipeline.tracking.store import Store

log = logging.getLogger(__name__)

# Artifacts that a reviewer opens, by what they are called.
PAGES: Mapping[str, str] = {
    "report.html": "Report",
    "predictions.json": "Predictions",
    "val_scores.json": "Scores",
    "test_scores.json": "Test scores",
    "cost.json": "Cost",
    "job.json": "Job at the service",
}
_WIDTH = 80  # characters of a command's line; a longer one pushes MLflow's details out of sight
_SPECIAL = re.compile(r"[&<>`*\[\]()#!~|\\@:^${}]|(?<!\w)_|_(?!\w)")  # to some reader of Markdown


@contextmanager
def described(store: Store, run_id: str) -> Iterator[None]:
    """Describe a run when it begins and again when it is over, however it ends."""
    describe(store, run_id)
    try:
        yield
    finally:
        describe(store, run_id)


def describe(store: Store, run_id: str, findings: Sequence[str] = ()) -> None:
    """Write a run's description, unless a user changed it; a store that fails costs no more.

    Args:
        store: where the run is.
        run_id: of a study, a trial or a run of its own.
        findings: what a study found beyond its best trial, a line each.
    """
    try:
        run = run_of(store, run_id)
        known, tag = run.data.tags.get(NOTE, ""), run.data.tags.get(tags.DESCRIBED, "")
        if tag != (_digest(known) if known else ""):
            return
        is_study = run.data.tags.get(tags.KIND) == "study"
        text = _study(store, run, findings) if is_study else _single(store, run)
        text = text[: tags.MOST_CHARACTERS]
        if text != known:
            store.client.set_tag(run_id, tags.DESCRIBED, _digest(text))
            store.client.set_tag(run_id, NOTE, text)
    except Exception:
        log.warning("run %s could not be described", run_id, exc_info=True)


def _link(text: str, run: Run, run_id: str | None = None, path: str = "") -> str:
    """Return a link within the UI to a run, or to another one of its experiment.

    The path is that of a tab of its page. Without the workflow MLflow opens the run in its GenAI
    layout for a first-time visitor.
    """
    place = f"#/experiments/{run.info.experiment_id}/runs/{run_id or run.info.run_id}"
    return f"[{escaped(text)}]({place}{path}?workflowType=machine_learning)"


def escaped(text: Any) -> str:
    """Return a text as Markdown shows it: as it is, on one line."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", printable(str(text)))


def _study(store: Store, study: Run, findings: Sequence[str]) -> str:
    """Compose a study's: its question and answer, its space, how it ended, how to run it again.

    MLflow shows the first five lines, and the others after a click.
    """
    known = study.data.tags
    goals = " and ".join(
        f"the {'highest' if way == 'maximize' else 'lowest'} **{escaped(goal)}**"
        for goal, way in goals_of([study])
    )
    space = json.loads(known.get(tags.SPACE, "{}")) or dict.fromkeys(searched_keys(study), "")
    command = ["tunewright", "train", "-m", *json.loads(known.get(tags.OVERRIDES, "[]"))]
    view = view_link(study)
    views = [f"[Table of the trials]({view})", f"[Charts]({view}&compareRunsMode=CHART)"]
    parts = [
        f"Which values give {goals}? {_best(store, study)}".strip(),
        " · ".join([*views, *_pages(store, study)]),
        _table("searched", "values", space),
        f"The search is {escaped(known[tags.STATE])}.",
        "\n".join(f"- {escaped(line.strip())}" for line in findings),
        _again(command) if known.get(tags.JOB) else "",
    ]
    return "\n\n".join(filter(None, parts))


def _best(store: Store, study: Run) -> str:
    """Name the best trial, its score, and the model that is kept of it."""
    known = study.data.tags
    if tags.BEST_RUN not in known:
        return ""
    best = _link(f"trial {known[tags.BEST_TRIAL]}", study, known[tags.BEST_RUN])
    said = f"Best: {best}, {escaped(known[tags.OBJECTIVE])} = {escaped(known[tags.BEST_SCORE])}"
    run = seek_run(store, known[tags.BEST_RUN])
    if run is None or tags.MODEL not in run.data.tags:
        return said
    place = f"#/experiments/{run.info.experiment_id}/models/{run.data.tags[tags.MODEL]}"
    return f"{said}, [its model]({place}?workflowType=machine_learning)"


def _single(store: Store, run: Run) -> str:
    """Compose a trial's, or that of a run of its own: its result, its rerun, searched values."""
    known, tuned = run.data.tags, run.data.tags.get(tags.TUNED_MODEL)
    parts = [
        _outcome(store, run),
        f"Its point: {escaped(known[tags.POINT])}" if tags.POINT in known else "",
        " · ".join(_pages(store, run)),
        f"Its model, at the service: {escaped(tuned)}" if tuned else "",
        f"Run it again: `tunewright rerun {run.info.run_id}`",
        _table("searched", "value", json.loads(known.get(tags.SEARCHED, "{}"))),
    ]
    return "\n\n".join(filter(None, parts))


def _outcome(store: Store, run: Run) -> str:
    """Say whose trial a run is, how it stands, why it failed, and which scores it has."""
    known = run.data.tags
    state = escaped(known.get(tags.STATE, "unknown"))
    if soup := known.get(tags.SOUP):
        score, of, rest = soup.partition(" of ")
        return f"**{escaped(score)}**{of}{escaped(rest)}"
    if tags.TRIAL in known and (parent := known.get("mlflow.parentRunId")):
        of_study = _link(known[tags.STUDY], run, parent)
        said = f"Trial {escaped(known[tags.TRIAL])} of {of_study}: {state}"
    else:
        said = f"{escaped(run.info.run_name)}: {state}"
    if reason := known.get(tags.REASON):
        said += f" ({escaped(reason[:500])})"
    scores = {
        goal: score_of(store, run, goal, is_first=i == 0)
        for i, goal in enumerate(objectives_of(run))
        if goal
    }
    shown = [f"**{escaped(g)} = {s:.6g}**" for g, s in scores.items() if s is not None]
    return ", ".join([said, *shown])


def _pages(store: Store, run: Run) -> list[str]:
    """Return links to the artifacts that a run has of `PAGES`."""
    logged = {artifact.path for artifact in store.client.list_artifacts(run.info.run_id)}
    return [
        _link(title, run, path=f"/artifacts/{file}")
        for file, title in PAGES.items()
        if file in logged
    ]


def _table(first: str, second: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    rows: Iterable[str] = (
        f"| {escaped(key)} | {escaped(v if isinstance(v, str) else short_value(key, v))} |"
        for key, v in values.items()
    )
    return "\n".join([f"| {first} | {second} |", "|---|---|", *rows])


def _again(command: Sequence[str]) -> str:
    """Return a command as a block of code, which no text in it can end."""
    lines = [""]
    for word in map(shlex.quote, map(printable, command)):
        if lines[-1] and len(lines[-1]) + len(word) >= _WIDTH:
            lines.append(" ")
        lines[-1] += f" {word}" if lines[-1] else word
    text = " \\\n".join(lines)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"Run it again:\n\n{fence}\n{text}\n{fence}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
