"""The embedded model on the embedded tweets: what the README's first command does, made small."""

from tests.support.stores import splits_of

# All that a run of three labels logs: its scores, their labels and costs in full are artifacts.
METRICS = {
    *("train/loss", "train/grad_norm", "train/learning_rate"),
    *("val/loss", "val/accuracy", "val/f1_macro", "val/f1_weighted"),
    *("val/precision_macro", "val/recall_macro", "val/majority/f1_macro"),
    *("best/step", "best/epoch"),
    *("cost/train_seconds", "cost/evaluate_seconds", "cost/seconds_per_1000_rows"),
    *("cost/memory_mb", "cost/parameters", "time/run_seconds"),
}


def test_the_embedded_model_beats_the_majority_on_the_embedded_tweets(cli, runs):
    ended = cli(
        "train",
        "data.max_train_samples=192",
        "data.max_validation_samples=64",
        "training.epochs=1",
        "training.max_length=64",
        "optimizer.learning_rate=3e-4",
    )
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    assert run.data.tags["tunewright.labels"] == "negative, neutral, positive"
    assert splits_of(run)["train"]["rows"] == 192
    assert set(run.data.metrics) == METRICS
    assert run.data.metrics["val/f1_macro"] > run.data.metrics["val/majority/f1_macro"]
