"""MLflow's own variables, as they work in any of its programs."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from pipeline.jobs.place import store_at
from tests.support.servers import free_port

URI, NAME = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"


@pytest.mark.parametrize(
    ("given", "variables", "uri", "experiment"),
    [
        ([], {}, None, "tunewright"),
        ([], {URI: "sqlite:///x.db", NAME: "theirs"}, "sqlite:///x.db", "theirs"),
        ([], {URI: "", NAME: ""}, None, "tunewright"),
        (
            ["tracking.uri=sqlite:///mine.db", "tracking.experiment=mine"],
            {URI: "sqlite:///x.db", NAME: "theirs"},
            "sqlite:///mine.db",
            "mine",
        ),
        (["tracking.uri=null"], {URI: "sqlite:///x.db"}, None, "tunewright"),
    ],
    ids=["nothing", "variables", "empty ones", "both", "the default over a variable"],
)
def test_what_is_given_wins_over_a_variable_and_that_over_the_default(
    monkeypatch, given, variables, uri, experiment
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = store_at(given).config
    assert (found.uri, found.experiment) == (uri, experiment)


@contextmanager
def server():
    """Run what answers as an MLflow server with one experiment; yield address and headers seen."""
    seen = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            known = {"experiment_id": "1", "name": "mine", "lifecycle_stage": "active"}
            self.wfile.write(json.dumps({"experiment": known}).encode())

        def log_message(self, *_):
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", seen
    finally:
        httpd.shutdown()
        httpd.server_close()


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        (
            {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pw"},
            "Basic bWU6cHc=",
        ),
    ],
    ids=["token", "password"],
)
def test_a_server_gets_the_credentials_of_mlflows_variables(monkeypatch, variables, sent):
    with server() as (address, seen):
        monkeypatch.setenv(URI, address)
        monkeypatch.setenv(NAME, "mine")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        store_at([]).check_there()
    assert seen[-1] == sent


def test_a_server_that_is_not_there_is_named_at_once_by_each_verb(cli, monkeypatch):
    monkeypatch.setenv(URI, f"http://127.0.0.1:{free_port()}")
    for words in (["best", "one"], ["compare", "one"], ["runs"], ["ui", "one"], ["doctor"]):
        ended = cli(*words)
        assert ended.code == 2
        assert "no MLflow server answers there" in ended.err
