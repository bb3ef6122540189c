"""What the descriptions in MLflow say, compared with the records that they are made from."""

import json
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.common.text import printable
from pipeline.config.tracking import TrackingConfig
from pipeline.tracking.descriptions import _again, describe, escaped
from pipeline.tracking.metrics import history
from pipeline.tracking.store import open_store
from tests.support.rows import rows, write_rows
from tests.support.stores import Made, make_store, tiny_config

NOTE, GOAL = "mlflow.note.content", "val/f1_macro"


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Made:
    """A store with a study of two trials, one of them failed, and a run."""
    folder = tmp_path_factory.mktemp("described")
    tiny = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(60)))
    search = ["-m", "optimizer.learning_rate=1e-2,1e-3", "hydra.sweeper.study_name=a_b"]
    return make_store(folder, [*tiny, *search], tiny)


def best_of(made: Made, run_id: str) -> float:
    """Return a run's score, recomputed from its evaluations."""
    return max(p.value for p in made.client.get_metric_history(run_id, GOAL))


def number_after(text: str, note: str) -> float:
    return float(re.search(re.escape(text) + r" = ([\d.e-]+)", note)[1])


def test_a_study_says_what_it_asks_what_it_found_and_how_it_is_run_again(made):
    (study,), trials = made.runs("study"), made.runs("trial")
    note, known = study.data.tags[NOTE], study.data.tags
    assert note.startswith(f"Which values give the highest **{GOAL}**?")
    assert "| optimizer.learning_rate | " in note
    view, charts, report = re.findall(r"\[(?:Table of the trials|Charts|Report)\]\((.*?)\)", note)
    kept = made.client.get_experiment(study.info.experiment_id).tags
    assert f"mlflow.sharedViewState.{view.rpartition('viewStateShareKey=')[2]}" in kept
    assert charts == f"{view}&compareRunsMode=CHART"
    assert f"/runs/{study.info.run_id}/artifacts/report.html?" in report
    scores = {run.info.run_id: best_of(made, run.info.run_id) for run in trials}
    best = max(scores, key=lambda run_id: scores[run_id])
    where = f"#/experiments/{study.info.experiment_id}/runs/{best}?workflowType=machine_learning"
    assert f"[trial {known['tunewright.best_trial']}]({where})" in note
    experiment = [study.info.experiment_id]
    (model,) = made.client.search_logged_models(experiment, f"source_run_id = '{best}'")
    assert f"/models/{model.model_id}?" in note
    assert number_after(GOAL, note) == pytest.approx(scores[best], abs=5e-5)
    second = min(scores.values())
    number = next(r.data.tags["tunewright.trial"] for r in trials if r.info.run_id != best)
    found = re.search(rf"- Second&#58; trial {number}, ([\d.]+)", note)
    assert float(found[1]) == pytest.approx(second, abs=5e-5)
    assert "The search is complete." in note
    assert "2 trials&#58; 2 complete" in note
    (command,) = re.findall("```\n(.*)\n```", note, re.DOTALL)
    again = json.loads(known["tunewright.overrides"])
    assert shlex.split(command.replace("\\\n", "")) == ["tunewright", "train", "-m", *again]
    assert all(len(line) < 90 for line in command.splitlines() if " " in line.strip(" \\"))


def test_a_study_has_the_data_sets_of_its_trials(made):
    (study,), trials = made.runs("study"), made.runs("trial")

    def inputs(run):
        return {
            (i.tags[0].value, i.dataset.digest, i.dataset.name) for i in run.inputs.dataset_inputs
        }

    assert {context for context, *_ in inputs(study)} == {"train", "validation"}
    assert [inputs(trial) for trial in trials] == [inputs(study)] * 2


def test_a_trial_and_a_run_say_how_they_ended_and_with_which_score(made):
    (study,) = made.runs("study")
    for run in [*made.runs("trial"), *made.runs("run")]:
        note = run.data.tags[NOTE]
        assert ": complete, **" in note
        assert number_after(GOAL, note) == pytest.approx(best_of(made, run.info.run_id), rel=1e-5)
        assert f"tunewright rerun {run.info.run_id}" in note
        linked = re.findall(rf"/runs/{run.info.run_id}/artifacts/([^?]*)\?", note)
        assert {"predictions.json", "val_scores.json"} < {*linked}
        assert {*linked} < {file.path for file in made.client.list_artifacts(run.info.run_id)}
        if run.data.tags["tunewright.kind"] == "trial":
            assert f"/runs/{study.info.run_id}?" in note
            assert f"| optimizer.learning_rate | {run.info.run_name.partition('lr=')[2]} |" in note
            assert "[a_b](" in note


def test_a_description_that_a_user_changed_or_deleted_stays(made):
    run = made.runs("trial")[0]
    store = open_store(TrackingConfig(str(made.folder / "mlruns"), None, "tunewright"))
    for own in ("Ours.", ""):
        made.client.set_tag(run.info.run_id, NOTE, own)
        describe(store, run.info.run_id)
        assert made.client.get_run(run.info.run_id).data.tags[NOTE] == own
    made.client.set_tag(run.info.run_id, NOTE, run.data.tags[NOTE])
    made.client.set_tag(run.info.run_id, "tunewright.state", "failed")
    made.client.set_tag(run.info.run_id, "tunewright.reason", "oom: *no* memory")
    describe(store, run.info.run_id)
    now = made.client.get_run(run.info.run_id).data.tags[NOTE]
    assert ": failed (oom&#58; &#42;no&#42; memory)" in now
    assert GOAL not in now
    assert history(store, run.info.run_id, GOAL)


@settings(deadline=None)
@given(st.text("ab _*`[]()<>&|\\~#!@:/-$\n1.x", max_size=30))
def test_escaped_text_is_text_and_a_command_ends_where_its_block_does(text):
    reader = MarkdownIt("gfm-like", {"linkify": False})
    shown = reader.parse(f"x {escaped(text)} x")
    (inline,) = (token for token in shown if token.type == "inline")
    assert all(child.type in ("text", "text_special") for child in inline.children)
    read = "".join(child.content for child in inline.children)
    assert read == f"x {text} x".replace("\n", "\\n").strip()
    blocks = [token for token in reader.parse(_again([text + "`"])) if token.type == "fence"]
    assert [block.content for block in blocks] == [shlex.quote(printable(text + "`")) + "\n"]
