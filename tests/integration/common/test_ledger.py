"""Every second of a process is booked, and a run is set beside what its products need."""

import time
from pathlib import Path

import pytest

from pipeline.common import machine
from pipeline.common import timing as ledger
from pipeline.common.timing import HEADS, Account, Ledger, summary
from tests.support.studies import open_study


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that stands still until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(ledger.time, "perf_counter", lambda: now[0])
    return now


def test_a_head_within_another_is_booked_once(clock):
    book = Ledger()
    book.take()
    with book.booked("data"):
        clock[0] += 1
        with book.booked("logging"):
            clock[0] += 2
        clock[0] += 4
    clock[0] += 8
    spent = book.take()
    assert (spent["data"], spent["logging"], spent["boot"]) == (5, 2, 8)
    assert sum(spent.values()) == 15
    assert not any(book.take().values())


def test_the_heads_of_a_search_sum_to_its_workers_time(cli, tiny, runs):
    grid = ["optimizer.learning_rate=1e-2,1e-3", "hydra.sweeper.n_jobs=1"]
    began = time.perf_counter()
    cli("train", *tiny)  # takes what was booked before
    took = time.perf_counter() - began
    out = cli("train", "-m", *tiny, *grid).out
    whole = time.perf_counter() - began - took
    assert "\ntime: " in out
    assert "\nfloor: " in out
    totals = [trial.data.metrics["time/total_seconds"] for trial in runs("trial")]
    assert 0.5 * whole < sum(totals) < 1.1 * whole
    for trial in runs("trial"):
        of = trial.data.metrics
        heads = [of[f"time/{head}_seconds"] for head in HEADS]
        assert sum(heads) == pytest.approx(of["time/total_seconds"])
        assert all(
            of[f"time/{head}_seconds"] > 0 for head in ("evaluation", "optimizer", "compose")
        )
        assert of["time/floor_seconds"] > 0


def test_what_a_failed_trial_took_is_its_own(cli, tiny, runs, monkeypatch):
    from pipeline.training.trainer import FineTuner

    evaluate = FineTuner.evaluate_on

    def slow_and_broken(self, examples):
        if self._experiment.seed == 1:
            time.sleep(1.5)
            raise RuntimeError("broken")
        return evaluate(self, examples)

    monkeypatch.setattr(FineTuner, "evaluate_on", slow_and_broken)
    assert cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.study_name=mine").code == 0
    _, good = runs("trial")
    assert good.data.metrics["time/batches_seconds"] < 1.5
    (bad,) = (t for t in open_study(Path("mlruns/studies/mine")).trials if t.state.name == "FAIL")
    seconds, floor = bad.user_attrs["account"]
    assert (seconds["batches"] > 1.5, floor) == (True, 0.0)


@pytest.mark.parametrize("setting", ["adapter=none", "adapter=lora"])
def test_the_floor_is_that_of_the_trained_model_whether_it_is_kept_or_not(cli, tiny, runs, setting):
    # A run on its own keeps its model; its floor is that of a trial, which may not.
    assert cli("train", *tiny, setting, "seed=2").code == 0
    assert cli("train", "-m", *tiny, setting, "training.max_length=4,16", "seed=2").code == 0
    (alone,) = runs("run")
    short, same = runs("trial")
    floors = [run.data.metrics["time/floor_seconds"] for run in (short, same, alone)]
    assert floors[0] < floors[1] == floors[2]


def test_the_summary_calls_idle_what_no_trial_accounts_for():
    seconds = {**dict.fromkeys(HEADS, 0.0), "forward_backward": 30.0, "evaluation": 10.0}
    time, floor = summary([Account(seconds, 20.0), Account(seconds, 20.0)], wall=50.0, workers=2)
    assert time == "time: 50.0 s by 2 workers: forward/backward 60%, evaluation 20%, idle 20%"
    assert "floor: 20.0 s" in floor
    assert "2.5 times" in floor


def test_a_machine_is_measured_once_and_its_best_rate_counts(tmp_path, monkeypatch):
    asked = []
    for _ in range(2):
        assert machine.measured(tmp_path, {"what": "x"}, lambda: asked.append(1) or 7) == 7
    assert len(asked) == 1
    for rate, best in ((5.0, 5.0), (9.0, 9.0), (3.0, 9.0)):
        monkeypatch.setattr(machine, "_rates", {})  # another process
        assert machine.best_rate(tmp_path, {"what": "y"}, lambda now=rate: now) == best
    (tmp_path / machine.FILE).write_text("{")
    assert machine.measured(tmp_path, {"what": "x"}, lambda: 8) == 8


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
