"""A soup of a search's kept models: chosen, tested, served, and made again."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config.tracking import TrackingConfig
from pipeline.tracking import open_store, tags
from pipeline.tracking.kept_models import delete_model
from tests.support.rows import rows, write_rows
from tests.support.stores import Made, artifact, make_store, tiny_config


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Made:
    """A search that kept three of its models."""
    folder = tmp_path_factory.mktemp("soup")
    tiny = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(120)))
    rates = "optimizer.learning_rate=5e-3,1e-2,2e-2"
    command = ["-m", *tiny, rates, "tracking.keep_models=3", "hydra.sweeper.study_name=s"]
    return make_store(folder, command)


def test_a_soup_is_served_and_made_again(made, cli, monkeypatch):
    monkeypatch.chdir(made.folder)  # in which its record names files
    ended = cli("soup", "s", made.where)
    assert ended.code == 0, ended.err
    (run,) = made.runs("soup")
    (study,) = made.runs("study")
    known = run.data.tags
    assert known["mlflow.parentRunId"] == study.info.run_id
    assert known[tags.SOUP] in ended.out
    assert known["mlflow.note.content"].startswith("**test/f1_macro 0.")
    numbers = [int(number) for number in run.data.params["soup.trials"].split(", ")]
    assert len(numbers) > 1
    assert "optimizer.learning_rate" not in run.data.params
    trials = [made.runs("trial")[number] for number in numbers]
    inputs = made.client.get_run(run.info.run_id).inputs.model_inputs
    assert {i.model_id for i in inputs} == {trial.data.tags[tags.MODEL] for trial in trials}
    weights = [load_file(artifact(one, "model") / "model.safetensors") for one in [run, *trials]]
    for name, mean in weights[0].items():
        stacked = torch.stack([of_one[name].float() for of_one in weights[1:]])
        torch.testing.assert_close(mean, stacked.mean(dim=0))

    out = ["--input", "reviews.jsonl", "--output", "found.jsonl", "--force"]
    assert cli("predict", run.info.run_id, made.where, *out).code == 0
    found = [
        json.loads(line)["prediction"] for line in Path("found.jsonl").read_text().splitlines()
    ]
    by_id = dict(zip((f"reviews.jsonl:{n}" for n in range(1, 121)), found, strict=True))
    table = json.loads(artifact(run, "predictions.json").read_text())
    at = {name: table["columns"].index(name) for name in ("id", "prediction")}
    for row in table["data"]:
        assert by_id[Path(row[at["id"]]).name] == row[at["prediction"]]

    again = cli("rerun", run.info.run_id, made.where, "--verify")
    assert (again.code, "verdict: identical" in again.out) == (0, True), again.err

    first = trials[0].info.run_id
    delete_model(open_store(TrackingConfig(str(made.folder / "mlruns"), None, "tunewright")), first)
    refused = cli("rerun", run.info.run_id, made.where)
    assert (refused.code, f"`tunewright rerun {first}`" in refused.err) == (2, True)
    assert cli("rerun", first, made.where).code == 0
    again = cli("rerun", run.info.run_id, made.where, "--verify")
    assert (again.code, "verdict: identical" in again.out) == (0, True), again.err


def test_what_has_no_average_is_refused(made, cli, tiny):
    assert "no study of that name" in cli("soup", "other", made.where).err
    best, *others = [run for run in made.runs("trial") if tags.MODEL in run.data.tags]
    files = [artifact(run, "model") / "tunewright.json" for run in others]
    was = [file.read_text() for file in files]
    for file, text in zip(files, was, strict=True):
        file.write_text(json.dumps({**json.loads(text), "label_counts": {best.info.run_id: 1}}))
    refused = cli("soup", "s", made.where)
    for file, text in zip(files, was, strict=True):
        file.write_text(text)
    assert (refused.code, "no kept model can be averaged" in refused.err) == (2, True)
    assert ": its labels are " in refused.err

    one = ["optimizer.learning_rate=1e-3,1e-2", "hydra.sweeper.study_name=one"]
    assert cli("train", "-m", *tiny, *one).code == 0
    refused = cli("soup", "one")
    assert (refused.code, "it keeps 1 model of 2 trials" in refused.err) == (2, True)
    assert "tracking.keep_models=4" in refused.err
