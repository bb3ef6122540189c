"""Spaces beyond single keys: conditions, pairs, filters, first points, warm starts."""

from pathlib import Path


def test_a_named_sweep_may_say_all_of_it(cli, tiny, runs):
    Path("sweeps").mkdir()
    Path("sweeps/rich.yaml").write_text(
        "about: rich\n"
        "sampler: {name: random, seed: 3}\n"
        "n_trials: 4\n"
        "space: {optimizer: [adamw, sgd]}\n"
        "when:\n  optimizer=sgd:\n    optimizer.momentum: interval(0.5, 0.9)\n"
        "zip: [{training.batch_size: [8, 16], training.max_length: [16, 8]}]\n"
        "filter: \"training.batch_size * training.max_length <= 128 and seed < 50\"\n"
        "first: [{optimizer: sgd, optimizer.momentum: 0.75, training.batch_size: 16}]\n"
    )  # fmt: skip
    own = [o for o in tiny if not o.startswith(("training.max_length",))]
    ended_ = cli("sweep", "rich", *own)
    assert ended_.code == 0, ended_.err
    trials = runs("trial")
    assert len(trials) == 4
    assert trials[0].data.params["optimizer.momentum"] == "0.75"
    assert trials[0].data.params["training.max_length"] == "8"
    assert {t.data.params["optimizer.name"] for t in trials} == {"SGD", "AdamW"}
    study = runs("study")[0]
    shown = cli("best", study.data.tags["tunewright.study"]).out
    assert "training.batch_size = " in shown
    assert cli("sweep", "rich", *own, "hydra.sweeper.filter='seed > 50'").code == 2


def test_the_ready_example_runs(cli, tiny, runs):
    own = [o for o in tiny if not o.startswith(("training.max_length", "optimizer."))]
    ended_ = cli("sweep", "optimizers", *own, "training.max_length=16", "hydra.sweeper.n_trials=2")
    assert ended_.code == 0, ended_.err
    assert runs("trial")[0].data.params["optimizer.learning_rate"] == "5e-05"
