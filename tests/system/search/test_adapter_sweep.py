"""Adapters from the command line: searched like any key, kept merged, and predicting as logged."""

import json
from pathlib import Path

import pytest

from tests.support.stores import artifact

LORA = ("adapter=lora", "adapter.targets=[query,value]", "adapter.dropout=0.0")


def predictions(run) -> dict[str, dict]:
    """Return what a run logged, by the rows' ids."""
    table = json.loads(artifact(run, "predictions.json").read_text())
    rows = (dict(zip(table["columns"], row, strict=True)) for row in table["data"])
    return {row["id"]: row for row in rows}


def test_winner_of_lora_sweep_predicts_as_logged(cli, tiny, runs):
    space = ("adapter.r=2,4", "adapter.alpha=8.0", "optimizer.learning_rate=1e-3,2e-2")
    ended = cli("train", "-m", *tiny, *LORA, *space)
    assert ended.code == 0, ended.err
    trials, (study,) = runs("trial"), runs("study")
    assert len(trials) == 4
    assert len({run.data.params["adapter.r"] for run in trials}) == 2
    best = study.data.tags["tunewright.best_run_id"]
    ended = cli("predict", best, "--input", "reviews.jsonl", "--output", "out.jsonl")
    assert ended.code == 0, ended.err
    found = {row["id"]: row for row in map(json.loads, Path("out.jsonl").read_text().splitlines())}
    (winner,) = (run for run in trials if run.info.run_id == best)
    logged = predictions(winner)
    assert logged
    for row_id, row in logged.items():
        assert found[row_id]["prediction"] == row["prediction"]
        assert found[row_id]["probability"] == pytest.approx(row["probability"], abs=1e-4)
    kept = {path.name for path in artifact(winner, "model").iterdir()}
    assert {"model.safetensors", "adapter", "MLmodel"} <= kept


def test_adapters_are_choices_with_keys_of_their_own(cli, tiny, runs):
    Path("sweeps").mkdir()
    Path("sweeps", "mine.yaml").write_text(
        "about: adapters\nsampler: random\nn_trials: 6\n"
        "space:\n  adapter: [none, lora, head, freeze]\n"
        "when:\n  adapter=lora:\n    adapter.r: [2, 4]\n"
        "    adapter.targets: [[query], [query, value]]\n"
        "  adapter=freeze:\n    adapter.trained_layers: [1]\n"
    )
    ended = cli("sweep", "mine", *tiny)
    assert ended.code == 0, ended.err
    for run in runs("trial"):
        is_lora = run.data.params["adapter.name"] == "lora"
        assert ("adapter.r" in run.data.params) == is_lora
    assert len({run.data.params["adapter.name"] for run in runs("trial")}) > 1


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        (("adapter=lora", "adapter.targets=[qeury]"), ("adapter.targets", "qeury", "query?")),
        (("adapter=freeze", "adapter.trained_layers=3"), ("adapter.trained_layers=3", "1")),
        (("adapter=qlora",), ("adapter.name=qlora", "bitsandbytes")),
        (("adapter=lora", "+adapter.rank=3"), ("adapter.rank", "Valid: adapter.name, adapter.r,")),
        (("adapter=lorra",), ("adapter=lorra", "lora?")),
    ],
)
def test_invalid_adapter_is_refused(cli, tiny, given, fragments):
    ended = cli("train", *tiny, *given)
    assert ended.code == 2
    for fragment in fragments:
        assert fragment in ended.err
    assert not Path("mlruns", "mlflow.db").exists()  # refused before anything is recorded


def test_lora_sweep_is_one_study_of_two_stages(cli, tiny, runs):
    own = [override for override in tiny if "learning_rate" not in override]
    command = ("sweep", "lora", *own, *LORA[1:], "hydra.sweeper.n_trials=2")
    ended = cli(*command)
    assert ended.code == 0, ended.err
    trials, (study,) = runs("trial"), runs("study")
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {study.info.run_id}
    found = sorted(
        (
            int(t.data.tags["tunewright.trial"]),
            t.data.tags["tunewright.stage"],
            t.data.params["adapter.r"],
            float(t.data.params["optimizer.learning_rate"]),
        )
        for t in trials
    )
    assert [(n, stage, r) for n, stage, r, _ in found] == [
        (0, "1", "4"),
        (1, "1", "4"),
        (2, "2", "8"),
        (3, "2", "16"),
    ]
    assert {t.data.params["adapter.alpha"] for t in trials} == {"16.0"}
    assert found[2][3] == found[3][3]  # the best rate of the first stage
    assert found[2][3] in (found[0][3], found[1][3])
    name = study.data.tags["tunewright.study"]
    table = cli("compare", name, "--format", "csv").out.splitlines()
    assert table[0].startswith("trial,stage,")
    head, *rows = artifact(study, "trials.csv").read_text().splitlines()
    assert head.startswith("trial,stage,optimizer.learning_rate,adapter.r,")
    assert [row.split(",")[1] for row in rows] == ["1", "1", "2", "2"]
    page = artifact(study, "report.html").read_text()
    assert "<th>stage</th>" in page
    best = study.data.tags["tunewright.best_run_id"]
    ended = cli("rerun", best)
    assert ended.code == 0, ended.err
    ended = cli(*command)
    assert ended.code == 0, ended.err
    assert "4 of 4 trials done" in ended.out
    assert len(runs("trial")) == 4
    ended = cli("confirm", name, "--seeds", "2")
    assert ended.code == 0, ended.err
    assert "the default config" in ended.out
