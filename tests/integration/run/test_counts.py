"""What a search does is counted: what should be done once is, and no step waits for anything."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from pipeline.models.batches import CALL_TOKENS, cut
from pipeline.models.weights import Weights
from pipeline.serving.saved import CHECKED_ROWS
from pipeline.tasks.classification import Classification

CALLS = (  # of MLflow's client that reach the store
    "create_run",
    "log_artifact",
    "log_artifacts",
    "log_batch",
    "log_inputs",
    "log_metric",
    "log_param",
    "log_text",
    "set_tag",
    "set_terminated",
)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counter[Any]]:
    """Count the calls of methods, by what is made of each call; by name, if nothing is said."""

    def count(cls: type, *names: str, by: Callable[[str], Any] = str) -> Counter[Any]:
        calls: Counter[Any] = Counter()
        for name in names:
            original = getattr(cls, name)

            def counting(*args: Any, _name: str = name, _of: Any = original, **kwargs: Any) -> Any:
                calls[by(_name)] += 1
                return _of(*args, **kwargs)

            monkeypatch.setattr(cls, name, counting)
        return calls

    return count


def test_a_sweep_encodes_once_and_reads_weights_once(cli, tiny, counted, monkeypatch):
    encoded, encode = [], Classification.encode

    def encode_noted(self: Any, rows: Any, **how: Any) -> Any:
        encoded.append(len(rows))
        return encode(self, rows, **how)

    monkeypatch.setattr(Classification, "encode", encode_noted)
    read = counted(Weights, "_read")
    assert cli("train", "-m", *tiny, "seed=1,2,3").code == 0
    splits = [rows for rows in encoded if rows > CHECKED_ROWS]  # others are asked of a kept model
    assert len(splits) == 2  # training and validation
    assert read["_read"] == 1


def test_calls_of_mlflow_do_not_grow_with_the_steps(cli, tiny, counted, monkeypatch):
    monkeypatch.setattr("pipeline.tracking.record.FLUSH_SECONDS", float("inf"))

    def in_which_thread(name: str) -> tuple[str, bool]:
        return name, threading.current_thread() is threading.main_thread()

    short = counted(MlflowClient, *CALLS, by=in_which_thread)
    assert cli("train", *tiny, "training.epochs=1").code == 0
    known = Counter(short)
    short.clear()
    assert cli("train", *tiny, "training.epochs=8", "training.checkpoint_every=null").code == 0
    assert sum(short.values()) == sum(known.values())
    waited_for = {name for name, in_main in short if in_main}
    # The run is made and described before it begins; pictures, model and its scores are stored, and
    # the description is written again, when it is over.
    assert waited_for <= {"create_run", "log_artifact", "log_artifacts", "log_batch", "set_tag"}


def test_no_step_reads_a_value_from_the_device(cli, tiny, counted):
    # Not __bool__: transformers asks once a call whether a mask masks anything.
    items = counted(torch.Tensor, "item", "tolist", "cpu", "numpy", "__float__", "__int__")
    settings = ("training.logging_steps=1000", "training.eval_every=1000")
    settings = (*settings, "training.unpadding=false")  # which is for the CPU, and plans by lengths
    assert cli("train", *tiny, *settings, "training.batch_size=16").code == 0
    few = sum(items.values())
    items.clear()
    assert cli("train", *tiny, *settings, "training.batch_size=4").code == 0
    more_steps = 3 * 96 // 16
    assert sum(items.values()) - few < more_steps


def test_without_a_budget_evaluation_takes_a_batch_of_training(cli, tiny, monkeypatch):
    sizes, forward = set(), Classification.forward

    def noted(self: Any, model: Any, batch: Any) -> Any:
        if not model.training:
            sizes.add(len(batch["row"]))
        return forward(self, model, batch)

    monkeypatch.setattr(Classification, "forward", noted)
    whole = ("training.micro_batch_tokens=null", "training.batch_size=4")
    assert cli("train", *tiny, *whole).code == 0
    assert max(sizes) <= 8  # those of the check of a kept model


def test_a_batch_has_little_padding():
    lengths = [5, 6, 7, 7, 8, 8, 9, 10, 12, 14, 18, 25, 40, 41, 60, 64]
    parts = cut(lengths, 8192, CALL_TOKENS)
    padded = sum(len(part) * max(lengths[i] for i in part) for part in parts)
    assert padded < 1.6 * sum(lengths)
    assert len(lengths) * max(lengths) > 3 * sum(lengths)  # of the batch in one piece
