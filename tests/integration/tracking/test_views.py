"""A study's view in MLflow: written as the search runs, and opened by ``ui``."""

import os

import pytest
from mlflow.exceptions import MlflowException

from pipeline.tracking.views import TAG
from tests.support.servers import free_port
from tests.support.stores import Made
from tests.support.views import state_in


@pytest.fixture
def started(monkeypatch) -> list:
    """What would have taken this process over: the server."""
    commands: list = []
    monkeypatch.setattr(os, "execv", lambda _, command: commands.append(command))
    return commands


def experiment(made: Made):
    return made.client.get_experiment_by_name("tunewright")


def test_search_keeps_a_view_that_ui_opens(cli, tiny, runs, working_folder, started):
    searched = ("optimizer=adamw,sgd", "optimizer.learning_rate=1e-2,1e-3")
    ended = cli("train", "-m", *tiny, *searched)
    assert ended.code == 0, ended.err
    (study,) = runs("study")
    assert f"ui {study.info.run_name}" in ended.out
    state = state_in(experiment(Made(working_folder)).tags[TAG + study.info.run_id])
    (trial, *_) = runs("trial")
    names = ["params.`optimizer`", "params.`optimizer.learning_rate`"]
    assert set(names) < set(state["selectedColumns"])
    assert trial.data.params["optimizer"] == "adamw"  # a group's choice is logged as well
    (axes,) = (c for c in state["compareRunCharts"] if c["type"] == "PARALLEL")
    assert set(axes["selectedParams"]) == {"optimizer", "optimizer.learning_rate"}
    assert "metrics.`val/f1_macro`" == state["orderByKey"] == state["selectedColumns"][0]
    port = str(free_port())
    shown = cli("ui", study.info.run_name[:3], "--port", port, "--no-browser")
    assert shown.code == 0, shown.err
    where = f"experiments/{study.info.experiment_id}/runs?workflowType=machine_learning"
    page = f"http://127.0.0.1:{port}/#/{where}&viewStateShareKey={study.info.run_id}"
    assert page in shown.out
    assert port in started[0]


def test_study_of_an_older_version_gets_its_view_when_it_is_opened(
    cli, tiny, runs, working_folder, started, monkeypatch
):
    assert cli("train", "-m", *tiny, "seed=1,2").code == 0
    made, (study,) = Made(working_folder), runs("study")
    key, id_ = TAG + study.info.run_id, study.info.experiment_id
    written = experiment(made).tags[key]
    made.client.delete_experiment_tag(id_, key)

    def refuse(*_):
        raise MlflowException("read-only")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_experiment_tag", refuse)
        shown = cli("ui", "--no-browser", "--port", str(free_port()))
        assert shown.code == 0, shown.err
        assert "viewStateShareKey" not in shown.out
    assert "viewStateShareKey" in cli("ui", "--no-browser", "--port", str(free_port())).out
    assert experiment(made).tags[key] == written
    assert len(started) == 2
