"""What an experiment and a run say of themselves to a user of MLflow."""

import getpass
import subprocess
from pathlib import Path

import mlflow

from pipeline.common.session import session
from pipeline.config.tracking import TrackingConfig
from pipeline.tracking import Store
from pipeline.tracking.context import EXPERIMENT_KIND, MODEL_TRAINING, NOTE

UI = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"


def tags_of(store: Store) -> dict[str, str]:
    return store.client.get_experiment(store.experiment_id).tags


def made(**known: str) -> Store:
    """Make a store whose experiment has these tags before we write to it."""
    store = Store(TrackingConfig("mlruns", None, "mine"))
    for key in tags_of(store):
        store.client.delete_experiment_tag(store.experiment_id, key)
    for key, value in known.items():
        store.client.set_experiment_tag(store.experiment_id, f"mlflow.{key}", value)
    return store


def test_a_new_and_an_old_experiment_are_of_model_training():
    new = Store(TrackingConfig("new", None, "mine"))
    new.connect()
    old = made()
    assert tags_of(old) == {}
    old.connect()
    assert tags_of(new) == tags_of(old)
    assert tags_of(old)[EXPERIMENT_KIND] == MODEL_TRAINING


def test_an_experiment_keeps_what_somebody_said_of_it():
    store = made(experimentKind="genai_development", **{"note.content": "Ours."})
    before = tags_of(store)
    store.connect()
    assert tags_of(store) == before == {EXPERIMENT_KIND: "genai_development", NOTE: "Ours."}


def test_mlflows_ui_knows_the_kind_of_the_experiment():
    script = next(UI.glob("main.*.js")).read_text(encoding="utf-8")
    assert f'"{EXPERIMENT_KIND}"' in script
    assert f'CUSTOM_MODEL_DEVELOPMENT="{MODEL_TRAINING}"' in script


def test_a_run_says_by_whom_with_what_and_from_which_commit_it_was_made():
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run(["git", "remote", "add", "origin", "https://me:secret@host/x.git"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    session().clear()
    store = Store(TrackingConfig("mlruns", None, "mine"))
    run_id = store.create_run("mine", 0, {"mlflow.source.name": "program.py"})
    known = store.client.get_run(run_id).data.tags
    assert known["mlflow.user"] == getpass.getuser()
    assert known["mlflow.source.type"] == "LOCAL"
    assert known["mlflow.source.name"] == "program.py"
    assert known["mlflow.source.git.commit"] == head.stdout.strip()
    assert known["mlflow.source.git.dirty"] == "false"
    assert "secret" not in str(known)
