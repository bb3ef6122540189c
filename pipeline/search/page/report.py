"""Make a study's page, and store it with the study's parent run."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import unquote

import optuna
from matplotlib import rc_context
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import TrackingError
from pipeline.search.page.drawing import LOOK, PAGE, STYLE
from pipeline.search.page.param_charts import importances, parallel, slices
from pipeline.search.page.score_charts import history, learning_curves, pareto
from pipeline.search.page.view import About, View
from pipeline.search.page.words import best_table, failures, head
from pipeline.tracking import Store, studies, tags

FILE = "report.html"


def report(store: Store, name: str, storage: str | None = None) -> str:
    """Make the page of a study, running or over, and store it with the study's parent run.

    Args:
        store: where the study's runs are.
        name: the study's name, or how it begins.
        storage: of the study; the one that its parent run names by default.

    Returns:
        The page's path, or its URI where it is not on this machine.

    Raises:
        TrackingError: where there is no such study, or its storage cannot be opened.
    """
    run = studies.find_study(store, name)
    known = run.data.tags.get(tags.STORAGE, "")
    study = _open(run.data.tags[tags.STUDY], storage or known)
    return write_page(store, study, run.info.run_id)


def write_page(store: Store, study: optuna.Study, parent_run_id: str) -> str:
    """Store the page with the study's parent run and return where it is."""
    run = studies.parent_run(store, parent_run_id)
    page = study_page(study, About.read(run.data.tags, run.data.params))
    return studies.log_page(store, run, page, FILE)


def study_page(study: optuna.Study, about: About) -> str:
    """Return the page of a study.

    Args:
        study: in any state; read only.
        about: what else the page says.

    Returns:
        HTML without scripts and without a link to anything outside it.
    """
    view = View(study, about)
    with rc_context(LOOK):
        sections = {
            "Best trials": best_table(view),
            "Optimisation history": history(view),
            "Pareto front": pareto(view),
            "Parameter importances": importances(view),
            "Parallel coordinates": parallel(view),
            "Slices": slices(view),
            "Learning curves": learning_curves(view),
            "Failures": failures(view),
        }
    named = [f"<section><h2>{k}</h2>{text}</section>" for k, text in sections.items() if text]
    body = "\n".join([head(view), *named])
    return PAGE.format(title=escape(study.study_name), style=STYLE, body=body)


def _open(name: str, storage: str) -> optuna.Study:
    """Open a study that is there; looking for it makes nothing."""
    if not storage or studies.MASK in unquote(storage):
        raise TrackingError(
            f"{name}: its parent run does not say how to open its storage"
            f"{f' ({storage}: secrets are not kept)' if storage else ''}. Give it: "
            "hydra.sweeper.storage=…"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        file = _file_of(storage)
        if file is not None and not file.is_file():
            raise FileNotFoundError("there is no such file")
        backend = storage if "://" in storage else JournalStorage(JournalFileBackend(storage))
        return optuna.load_study(study_name=name, storage=backend)
    except (KeyError, OSError, ValueError, ImportError, SQLAlchemyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrackingError(
            f"{name}: the study cannot be opened in {studies.masked(storage)}: {reason}. "
            "Is it elsewhere now? Give hydra.sweeper.storage=…"
        ) from error


def _file_of(storage: str) -> Path | None:
    if "://" not in storage:
        return Path(storage)
    url = make_url(storage)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
