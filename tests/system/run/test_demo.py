"""The embedded model on the embedded tweets: what the README's first command does, made small."""


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
    assert run.data.metrics["data/train_rows"] == 192
    assert run.data.metrics["val/best/f1_macro"] > run.data.metrics["val/majority/f1_macro"]
