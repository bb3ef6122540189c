"""Private parts of `Trainer` that the training relies on: what a new release may move."""

import inspect

import pytest
from transformers import Trainer, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from pipeline.training.trainer import FineTuner

OVERRIDDEN = {
    "_get_grad_norm": "gradients would not be divided by the batch's weight, nor clipped",
    "_load_from_checkpoint": "resumed runs would not get their weights",
    "_load_optimizer_and_scheduler": "resumed runs would begin with a new optimizer",
    "_load_rng_state": "resumed runs would draw other dropout",
    "_save_checkpoint": "no state would be kept on disk",
}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_trainer_calls_what_fine_tuner_overrides(name):
    of_trainer = inspect.getsource(inspect.getmodule(Trainer))
    assert name in vars(FineTuner)
    assert name in vars(Trainer), f"Trainer has no {name}: {OVERRIDDEN[name]}"
    assert of_trainer.count(f"self.{name}(") >= 1, f"Trainer calls no {name}: {OVERRIDDEN[name]}"


@pytest.mark.parametrize("name", ["_tr_loss", "_globalstep_last_logged"])
def test_trainer_keeps_the_unlogged_loss_where_snapshots_look(name):
    of_trainer = inspect.getsource(inspect.getmodule(Trainer))
    assert f"self.{name}" in of_trainer, f"snapshots could not keep the unlogged loss: no {name}"


def test_trainer_reads_its_counters_from_a_file():
    assert TRAINER_STATE_NAME in ("trainer_state.json",)
    assert "TRAINER_STATE_NAME" in inspect.getsource(inspect.getmodule(Trainer))


def test_number_of_gpus_can_be_set(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    arguments._n_gpu = 1
    assert arguments.n_gpu == 1, "one run would take all GPUs, and multiply its batch"
