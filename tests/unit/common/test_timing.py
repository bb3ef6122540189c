"""Phases of a process: booked once, the rest called idle; the rate of a machine."""

import math
from types import SimpleNamespace

import pytest

from pipeline.common import machine, timing
from pipeline.common.session import session
from pipeline.common.timing import Account, Start, account_of_search, booked, ledger, summary
from pipeline.training import speed
from pipeline.training.lower_bound import machine_rate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that stands still until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_phase_within_another_is_booked_once(clock):
    ledger().take()
    with booked("data"):
        clock[0] += 1
        with booked("logging"):
            clock[0] += 2
        clock[0] += 4
    clock[0] += 8
    spent = ledger().take()
    assert (spent["data"], spent["logging"], spent["boot"]) == (5, 2, 8)
    assert sum(spent.values()) == 15
    assert not any(ledger().take().values())


def test_time_of_a_search_is_that_of_its_workers_and_of_what_they_wait_for():
    trial = {"forward_backward": 20.0, "evaluation": 5.0, "idle": 1.0}
    own = {"check": 5.0, "idle": 40.0}  # it waits for its workers, who do not wait
    trials = [Account(trial, 20.0), Account(trial, math.nan)]
    starts = [Start(50.0, 2, own)]
    account = account_of_search(trials, starts)
    assert account.seconds == {"forward_backward": 40, "evaluation": 10, "check": 10, "idle": 40}
    assert account.as_tree()["over_lower_bound"] == 5.0
    time, bound = summary(account, starts)
    assert time == (
        "time: 50.0 s by 2 workers, 100.0 s in all: "
        "forward/backward 40%, idle 40%, check 10%, evaluation 10%"
    )
    assert "compute lower bound: 20.0 s in all" in bound  # as MLflow has it
    assert "5.0 times" in bound
    starts += [Start(20.0, 1, own), Start(5.0, 2)]  # of the last one it is only known how long
    account = account_of_search(trials, starts)
    assert account.seconds["check"] == 15
    assert summary(account, starts)[0].startswith(
        "time: 75.0 s in 3 starts (the latest: 5.0 s) by 1 or 2 workers, 130.0 s in all: "
    )
    assert account.total == 130


def test_a_machine_is_measured_once_and_its_best_rate_counts(tmp_path):
    asked = []
    for _ in range(2):
        assert machine.measured(tmp_path, {"what": "x"}, lambda: asked.append(1) or 7) == 7
    assert len(asked) == 1
    for rate, best in ((5.0, 5.0), (9.0, 9.0), (3.0, 9.0)):
        session().clear()  # another process
        assert machine.best_rate(tmp_path, {"what": "y"}, lambda now=rate: now) == best
    (tmp_path / machine.FILE).write_text("{")
    assert machine.measured(tmp_path, {"what": "x"}, lambda: 8) == 8


def test_a_study_keeps_the_rate_of_its_quiet_machine(tmp_path, monkeypatch):
    training = SimpleNamespace(precision="float32", threads=1)
    experiment = SimpleNamespace(training=training, tracking=SimpleNamespace(dir=tmp_path))
    asked = [(None, 8.0, 8.0), ("study", 4.0, 8.0), (None, 9.0, 9.0), ("study", 4.0, 8.0)]
    for study, now, rate in asked:  # before the workers start, in one, in a run alone, in another
        session().clear()  # another process
        monkeypatch.setattr(speed, "matmul_rate", lambda _, now=now: now)
        assert machine_rate(experiment, study and tmp_path / study) == rate


def test_operations_are_six_a_weight_and_token():
    import torch
    from datasets import Dataset
    from transformers import BertConfig, BertForSequenceClassification

    from pipeline.training.speed import Operations

    class Task:
        def collate(self, examples):
            return {"input_ids": torch.tensor([e["input_ids"] for e in examples])}

        def forward(self, model, batch):
            return {"loss": model(**batch).logits.sum(-1)}

    class Split:
        lengths = (8, 16, 24, 32)
        dataset = Dataset.from_dict({"input_ids": [[1] * n for n in lengths]})

    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=2, vocab_size=50, **sizes))
    body = sum(p.numel() for n, p in model.named_parameters() if ".layer." in n)
    found = Operations(model, Task(), Split())
    assert found.of_training(Split()) == pytest.approx(6 * body * sum(Split.lengths), rel=0.1)
    assert found.of_evaluation(Split()) == pytest.approx(2 * body * sum(Split.lengths), rel=0.1)
    assert all(p.grad is None for p in model.parameters())
