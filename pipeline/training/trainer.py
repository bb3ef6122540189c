"""Fine-tuning on `transformers.Trainer`: our optimizer, our evaluation, a watch on the loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from pipeline.config import Experiment
from pipeline.errors import DivergedError
from pipeline.tasks.base import Examples
from pipeline.training.best import Evaluation, Evaluations
from pipeline.training.losses import LossWatch
from pipeline.training.optimizer import build_optimizer, build_schedule

LogMetrics = Callable[[dict[str, float], int], None]  # metrics by full name, step
Score = Callable[[Examples, "np.ndarray[Any, Any]"], dict[str, float]]


class FineTuner(Trainer):  # type: ignore[misc]
    """Trains on one split and evaluates on another, keeping every evaluation's scores.

    Args:
        experiment: the whole config; training, optimizer, schedule, evaluation and seed are used.
        output_dir: scratch folder; nothing is saved there by the trainer itself.
        model: with the weights to start from; trained in place.
        tokenizer: pads the batches.
        train: encoded training split.
        validation: encoded validation split.
        evaluations: takes in each evaluation and decides when patience is used up.
        score: the task's metrics of a split's raw outputs.
        log_metrics: gets every metric as it comes, by its full name.
    """

    def __init__(
        self,
        experiment: Experiment,
        output_dir: Path,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        train: Examples,
        validation: Examples,
        evaluations: Evaluations,
        score: Score,
        log_metrics: LogMetrics,
    ) -> None:
        super().__init__(
            model=model,
            args=_arguments(experiment, output_dir),
            train_dataset=train.dataset,
            eval_dataset=validation.dataset,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        self.remove_callback(PrinterCallback)
        self.optimizer: torch.optim.Optimizer | None
        self.lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None
        self._experiment = experiment
        self._validation = validation
        self._evaluations = evaluations
        self._score = score
        self._log_metrics = log_metrics
        self._losses = LossWatch(train.rows.ids)
        self.evaluate_seconds = 0.0  # wall time of all evaluations so far

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Build the optimizer from config, once."""
        if self.optimizer is None:
            trained = self.model if model is None else model
            self.optimizer = build_optimizer(
                self._experiment.optimizer, trained, self.get_decay_parameter_names(trained)
            )
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Build the schedule of the whole run from config, once."""
        if self.lr_scheduler is None:
            self.lr_scheduler = build_schedule(
                self._experiment.schedule, optimizer or self.create_optimizer(), num_training_steps
            )
        return self.lr_scheduler

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Take the rows' positions off the batch; keep a training step's loss for the watch."""
        model_inputs = {key: value for key, value in inputs.items() if key != "row"}
        loss, outputs = super().compute_loss(
            model, model_inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if model.training:
            self._losses.keep(self.state.global_step + 1, loss, inputs["row"])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Pass the training loss on, after a look at the steps since the last call."""
        self._losses.check()
        super().log(logs, start_time)
        if "loss" in logs:
            named = {f"train/{key}": float(value) for key, value in logs.items() if key in _LOGGED}
            self._log_metrics(named, self.state.global_step)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation split with the present weights; stop when patience is used up."""
        last = self._evaluations.last
        if last is not None and last.step == self.state.global_step:
            return last.metrics  # Trainer asks twice where a run ends between two evaluations
        self._losses.check()
        evaluation = self.evaluate_on(self._validation)
        self._log_metrics({f"val/{k}": v for k, v in evaluation.metrics.items()}, evaluation.step)
        self._evaluations.add(evaluation, self.model)
        if self._evaluations.exhausted:
            self.control.should_training_stop = True
        return evaluation.metrics

    def evaluate_on(self, examples: Examples) -> Evaluation:
        """Score a split with the present weights.

        Raises:
            DivergedError: where an output is NaN or infinite, naming rows.
        """
        started = time.perf_counter()
        result = self.evaluation_loop(
            self.get_test_dataloader(examples.dataset.select(examples.by_length)),
            description="evaluation",
            prediction_loss_only=False,
            metric_key_prefix="split",
        )
        outputs = np.empty_like(result.predictions)
        outputs[examples.by_length] = result.predictions
        broken = ~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        if broken.any():
            first = examples.rows.ids[int(broken.argmax())]
            raise DivergedError(
                f"step {self.state.global_step}: the model's outputs are NaN or infinite on "
                f"{int(broken.sum())} of {len(outputs)} rows, first on row {first}."
            )
        metrics = {"loss": float(result.metrics["split_loss"]), **self._score(examples, outputs)}
        self.evaluate_seconds += time.perf_counter() - started
        return Evaluation(self.state.global_step, float(self.state.epoch or 0.0), metrics, outputs)


_LOGGED: Sequence[str] = ("loss", "grad_norm", "learning_rate")


def _arguments(experiment: Experiment, output_dir: Path) -> TrainingArguments:
    training = experiment.training
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=experiment.evaluation.batch_size,
        max_grad_norm=training.max_grad_norm,
        eval_strategy="epoch" if training.eval_steps is None else "steps",
        eval_steps=training.eval_steps,
        logging_steps=training.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide what LossWatch is there to find
        save_strategy="no",  # the best weights are kept in memory
        use_cpu=not torch.accelerator.is_available(),
        bf16=training.precision == "bfloat16",
        seed=experiment.seed,
        report_to="none",  # only pipeline/tracking writes to MLflow
        disable_tqdm=True,
        remove_unused_columns=False,  # "row" must reach compute_loss
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # One run, one device: DataParallel would multiply the batch by the number of GPUs.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
