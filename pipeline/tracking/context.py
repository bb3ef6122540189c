"""What MLflow's users expect of an experiment and its runs: kind and purpose, user, source, commit.

MLflow's fluent interface adds user, source and commit by itself, its client does not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.common.session import shared
from pipeline.tracking.provenance import project

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

NOTE = "mlflow.note.content"  # the description, of an experiment and of a run, in Markdown
EXPERIMENT_KIND = "mlflow.experimentKind"
# By it the UI opens on runs, parameters and metrics; without it, on traces of applications.
MODEL_TRAINING = "custom_model_development"
EXPERIMENT_TAGS: Mapping[str, str] = {
    EXPERIMENT_KIND: MODEL_TRAINING,
    NOTE: (
        "Fine-tuning runs and hyperparameter searches of tunewright. A search is one run, with "
        "its trials nested below it; its description names the best trial and says how to run it "
        "again. `tunewright compare`, `best`, `report` and `rerun` read the same records."
    ),
}


def describe_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Say of an experiment that it is for training, where its tags say nothing else.

    One that this account may not write to stays as it is.
    """
    from mlflow.exceptions import MlflowException

    known = client.get_experiment(experiment_id).tags
    try:
        for key, value in EXPERIMENT_TAGS.items():
            if not known.get(key):
                client.set_experiment_tag(experiment_id, key, value)
    except MlflowException as error:
        log.warning(
            "experiment %s could not be described, which only concerns how MLflow's pages show it; "
            "to set its tags, this account needs the permission EDIT for it: %s",
            experiment_id,
            error,
        )


@shared(maxsize=1)
def _project() -> dict[str, Any] | None:
    return project()  # asked once a session, as it starts git; a rerun's drift asks anew


def origin_tags() -> dict[str, str]:
    """Return who makes a run, with which program and which commit of the working folder's project.

    MLflow's providers tell, and those that are plugged into it; but the commit is that of the
    provenance, since theirs is of the folder that the program is installed in.
    """
    from mlflow.tracking.context.git_context import GitRunContext
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_GIT_DIRTY, MLFLOW_GIT_REPO_URL

    found: dict[str, str] = resolve_tags(ignore=[GitRunContext])
    if code := _project():
        found[MLFLOW_GIT_COMMIT] = code["commit"]
        found[MLFLOW_GIT_DIRTY] = str(code["changes"] is not None).lower()
        if code["remote"]:
            found[MLFLOW_GIT_REPO_URL] = code["remote"]
    return found
