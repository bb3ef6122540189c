"""Texts of a store that somebody else wrote move no cursor, whichever verb quotes them."""

import json

import pytest

from pipeline.config.tracking import TrackingConfig
from pipeline.tracking import open_store

EVIL = "\x1b]0;owned\x07\u202e"


@pytest.fixture
def hostile() -> str:
    """A store with a study whose every text is hostile; the id of its best trial's run."""
    store = open_store(TrackingConfig(dir="mlruns", uri=None, experiment="tunewright"))
    store.connect()

    def run(kind: str, **tags: str) -> str:
        given = {"kind": kind, "study": f"mine{EVIL}", "state": f"complete{EVIL}", **tags}
        named = {f"tunewright.{key}": text for key, text in given.items()}
        made = store.client.create_run(store.experiment_id, tags=named, run_name=f"run{EVIL}")
        store.client.log_param(made.info.run_id, "seed", f"1{EVIL}")
        store.client.set_terminated(made.info.run_id)
        return made.info.run_id

    best = run("trial", trial="0", overrides=json.dumps([f"data.text={EVIL}"]))
    about = {"objective": f"val/f1{EVIL}", "best_score": EVIL, "storage": f"mlruns/{EVIL}.journal"}
    space = json.dumps({"seed": f"1{EVIL}"})
    run(
        "study", best_run_id=best, best_trial=f"0{EVIL}", space=space, direction="maximize", **about
    )
    return best


@pytest.mark.parametrize("verb", ["best mine", "runs", "compare mine", "doctor", "report mine"])
@pytest.mark.usefixtures("hostile")
def test_no_verb_prints_a_control_character(cli, verb):
    ended = cli(*verb.split())
    assert "\\x1b]0;owned" in ended.out + ended.err
    assert not {*EVIL} & {"\x1b", "\x07", "\u202e"} & {*ended.out, *ended.err}
