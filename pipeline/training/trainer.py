"""Fine-tuning on `transformers.Trainer`: our optimizer, our evaluation, a watch on the loss.

Private parts of `Trainer` that it relies on, each with a test that says when a release moves it:
``_save_checkpoint``, ``_load_from_checkpoint``, ``_load_optimizer_and_scheduler``,
``_load_rng_state`` and ``_get_grad_norm`` are overridden; ``_tr_loss`` and
``_globalstep_last_logged`` are saved in snapshots; ``TrainingArguments._n_gpu`` is set.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME

from pipeline.common.errors import DivergedError
from pipeline.common.timing import added, booked, ledger
from pipeline.config.experiment import Experiment
from pipeline.models.batches import autocast, call_tokens
from pipeline.tasks.base import Batch, Examples, Outputs
from pipeline.tasks.objective import objectives
from pipeline.training.best import Evaluation, Evaluations
from pipeline.training.checkpoints import Checkpoints, Termination, check_fits
from pipeline.training.hooks import TrainingHook
from pipeline.training.loss_scale import LossScale
from pipeline.training.losses import LossWatch
from pipeline.training.microbatches import MicroBatches
from pipeline.training.optimizer import build_optimizer, build_schedule
from pipeline.training.points import Length, checkpoint_points, evaluation_points
from pipeline.training.prepare import early_examples
from pipeline.training.snapshot import (
    RandomState,
    Snapshot,
    load_trained_state,
    to_host,
    trained_state,
)
from pipeline.training.speedups import Accelerated
from pipeline.training.starting_rate import optimizer_of


class FineTuner(Trainer):  # type: ignore[misc]
    """Trains on one split and evaluates on another, keeping every evaluation's scores.

    Args:
        experiment: the config; training, optimizer, schedule, evaluation and seed are used.
        fast: the model with the weights to start from, trained in place; its task and splits.
        hooks: what accompanies the training.
        checkpoints: where the states go from which an interrupted run resumes. Outside a search,
            SIGTERM waits for the end of the step, whose state is then saved.
        output_dir: scratch folder; nothing is saved there by the trainer itself.
    """

    def __init__(
        self,
        experiment: Experiment,
        fast: Accelerated,
        hooks: Sequence[TrainingHook],
        checkpoints: Checkpoints,
        output_dir: Path,
    ) -> None:
        train, self._validation = fast.examples["train"], fast.examples["validation"]
        super().__init__(
            model=fast.model,
            args=_arguments(experiment, output_dir),
            train_dataset=train.dataset,
            eval_dataset=self._validation.dataset,
        )
        self._experiment, self._task = experiment, fast.task
        self.splits, self.parameters = fast.examples, fast.parameters
        self._early = early_examples(experiment, self._validation)
        # By now the model is on its device.
        call = fast.call_tokens or call_tokens(self.model)
        self._micro_batches = MicroBatches(fast.task, experiment.training.micro_batch_tokens, call)
        self.data_collator = self._micro_batches.make
        self.remove_callback(PrinterCallback)
        self.add_callback(_Pace(self))
        # None until they are created.
        self.optimizer: torch.optim.Optimizer
        self.lr_scheduler: torch.optim.lr_scheduler.LRScheduler
        first, *_ = objectives(experiment)
        self.evaluations = Evaluations(first, experiment.training.early_stopping_patience)
        self.hooks = hooks
        self._checkpoints = checkpoints
        self._losses = LossWatch(train.rows.ids)
        self._snapshot: Snapshot | None = None  # what the training is resumed from
        self._termination = Termination()
        self._eval_points: dict[int, float] = {}  # step -> epoch
        self._save_points: set[int] = set()
        self._weight = torch.tensor(1.0)  # of the batch whose gradients are there
        self._scale = LossScale(experiment.training.precision)
        self._earlier: dict[str, float] = {}  # seconds of earlier parts of the run, by phase
        self._saved = time.monotonic()  # when the state was last saved

    def fine_tune(self, snapshot: Snapshot | None = None) -> None:
        """Train to the end, or until a hook ends it, from the start or from a snapshot.

        Raises:
            TrackingError: for a snapshot of a different model; if a checkpoint cannot be written.
            DivergedError: if a loss or an output is NaN or infinite.
            KeyboardInterrupt: after SIGTERM, once the state of the step is saved.
        """
        self._snapshot = snapshot
        if snapshot is not None:
            check_fits(snapshot, self.model)
            self.evaluations = snapshot.evaluations
            self._earlier = snapshot.spent
        for hook in self.hooks:
            hook.on_start(snapshot)
        if snapshot is not None and snapshot.is_last:
            return
        is_soft = self._experiment.training.checkpoint_every is not None
        is_soft &= not self._checkpoints.of_trial and self._steps > 0  # else there is no state
        with booked("batches"):
            with self._termination.awaited() if is_soft else nullcontext():
                self._train(snapshot)
                if self._termination.asked:
                    self._save_checkpoint()
            with booked("logging"):
                self._checkpoints.wait()

    @property
    def _steps(self) -> int:
        """The steps of the whole run; none where the model is judged as it is."""
        return Length.of(self._experiment.training, len(self.train_dataset)).steps

    def _train(self, snapshot: Snapshot | None) -> None:
        if not self._steps:
            self.begin()
            self.evaluate()
        elif snapshot is None:
            self.train()
        else:
            self._resume(snapshot)

    def _resume(self, snapshot: Snapshot) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # Trainer reads its counters from a file; all else comes from memory, see below.
            Path(folder, TRAINER_STATE_NAME).write_text(snapshot.trainer_state, encoding="utf-8")
            self.train(resume_from_checkpoint=folder)

    def take_snapshot(self) -> Snapshot:
        """Copy all that the training needs to resume from here; call it between two steps."""
        return Snapshot(
            trainer_state=json.dumps(dataclasses.asdict(self.state)),
            weights=to_host(trained_state(self.model)),
            optimizer=to_host(self.optimizer.state_dict()),
            schedule=to_host(self.lr_scheduler.state_dict()),
            random=RandomState.take(),
            unlogged=(to_host(self._tr_loss), self._globalstep_last_logged),
            evaluations=self.evaluations,
            spent=self.spent,
            loss_scale=self._scale.state,
        )

    @property
    def spent(self) -> dict[str, float]:
        """The seconds of the run so far, earlier parts included, by phase."""
        return added(self._earlier, ledger().seconds())

    @property
    def evaluated(self) -> list[Examples]:
        """The rows of each evaluation so far."""
        early = [] if self._early is None else [self._early] * self.evaluations.early
        return [self._validation] * self.evaluations.full + early

    def begin(self) -> None:
        """Schedule the evaluations; restore what Trainer resets when it resumes."""
        training = self._experiment.training
        length = Length.of(training, len(self.train_dataset))
        assert length.steps == self.state.max_steps
        self._eval_points = evaluation_points(training, length)
        self._save_points = checkpoint_points(training, length)
        if self._snapshot is not None:
            loss, self._globalstep_last_logged = self._snapshot.unlogged
            self._tr_loss = loss.to(self.args.device, copy=True)
            if self._snapshot.loss_scale is not None:
                self._scale.resume(self._snapshot.loss_scale)

    @property
    def is_due(self) -> bool:
        """Whether the validation split is to be scored at this step."""
        return self.state.global_step in self._eval_points

    @property
    def is_to_save(self) -> bool:
        """Whether to save the state after this step to disk."""
        if self._termination.asked:
            return True
        seconds = time.monotonic() - self._saved
        due = seconds >= self._experiment.training.checkpoint_seconds
        return due and self.state.global_step in self._save_points

    def _save_checkpoint(self, *_: Any, **__: Any) -> None:
        """Save the state to disk; Trainer calls it after the step was logged and evaluated."""
        if self.control.should_training_stop and not self._termination.asked:
            return
        self._losses.check()
        with booked("logging"):
            self._checkpoints.wait()  # before there is one more copy
            self._checkpoints.write(self.take_snapshot(), self._flush())
            self._saved = time.monotonic()
            if self._termination.asked:
                self._checkpoints.wait()
        if self._termination.asked:
            raise KeyboardInterrupt(f"SIGTERM; the state of step {self.state.global_step} is saved")

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        assert self._snapshot is not None
        load_trained_state(self.model, self._snapshot.weights)

    def _load_optimizer_and_scheduler(self, _: str | None) -> None:
        if self._snapshot is not None:
            self.optimizer.load_state_dict(copy.deepcopy(self._snapshot.optimizer))
            self.lr_scheduler.load_state_dict(self._snapshot.schedule)

    def _load_rng_state(self, _: str | None) -> None:
        if self._snapshot is not None:
            self._snapshot.random.put_back()

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Build the optimizer from config, once."""
        if self.optimizer is None:
            trained = self.model if model is None else model
            self.optimizer = build_optimizer(
                optimizer_of(self._experiment), trained, self.get_decay_parameter_names(trained)
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

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, list[Batch]],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Accumulate a batch's gradients, micro-batch by micro-batch; return its mean loss.

        If memory runs out, the budget is halved and the step repeated with the same dropout.
        """
        del num_items_in_batch  # a step is one batch
        with booked("forward_backward"):
            model.train()
            batch = inputs["micro_batches"]
            random = RandomState.take()
            while True:
                try:
                    return self._add_up(model, batch)
                except torch.OutOfMemoryError:
                    batch = self._micro_batches.halve(batch)
                model.zero_grad()
                random.put_back()
                torch.cuda.empty_cache()
                self._tell(self._micro_batches.metrics, self.state.global_step)

    def _add_up(self, model: torch.nn.Module, batch: Sequence[Batch]) -> torch.Tensor:
        losses, weights = [], []
        device = batch[0]["row"].device
        # One context for all parts: weights are cast once, and cached until it ends.
        with autocast(device, self._experiment.training.precision):
            for part in batch:
                outputs = self._task.forward(model, part)
                loss = outputs["loss"].sum()
                with torch.autocast(device.type, enabled=False):
                    # Of the sum: the weight of the full batch comes with its last part.
                    torch.autograd.backward(loss * self._scale.value)
                losses.append(loss.detach())
                weights.append(outputs["weight"].detach().sum())
        self._weight = torch.stack(weights).sum()
        loss = torch.stack(losses).sum() / self._weight
        rows = torch.cat([part["row"] for part in batch])
        self._losses.keep(self.state.global_step + 1, loss, rows)
        return loss

    def _get_grad_norm(
        self, model: torch.nn.Module, grad_norm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Make the gradients those of the mean loss, and return their norm before it is clipped.

        Trainer calls it before each step. Its own clipping is off, so that gradients are multiplied
        once. Clipping is as in `torch.nn.utils.clip_grad_norm_`.
        """
        del grad_norm
        with booked("optimizer"):
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            factor = 1 / (self._weight * self._scale.value)
            norm = torch.nn.utils.get_total_norm(gradients) * factor
            if not self._scale.allows(norm):
                model.zero_grad()  # the optimizer steps over parameters without gradients
                return norm
            most = self._experiment.training.max_grad_norm
            if most:
                factor = factor * torch.clamp(most / (norm + 1e-6), max=1.0)
            for gradient in gradients:
                gradient.mul_(factor.to(gradient.device))
            return norm

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: the ledger does, and better."""
        del inputs
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Pass the training loss on, after a look at the steps since the last call."""
        self._losses.check()
        super().log(logs, start_time)
        if "loss" in logs:
            named = {f"train/{key}": float(value) for key, value in logs.items() if key in _LOGGED}
            self._tell(named, self.state.global_step)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation split with the present weights; stop when patience is used up."""
        last = self.evaluations.last
        if last is not None and last.step == self.state.global_step:
            return last.metrics  # Trainer evaluates twice if a run ends between two evaluations
        self._losses.check()
        is_end = self.state.global_step >= self.state.max_steps
        if self._early is None or is_end:
            evaluation = self.evaluate_on(self._validation)
        else:
            evaluation = dataclasses.replace(self.evaluate_on(self._early), is_early=True)
        self._tell(evaluation.named, evaluation.step)
        self.evaluations.add(evaluation, self.model)
        ends = is_end or self.evaluations.exhausted
        answers = [
            hook.on_evaluation(evaluation, self.evaluations, is_last=ends) for hook in self.hooks
        ]
        self.control.should_training_stop |= ends or not all(answers)
        self.control.should_save |= self._termination.asked  # meanwhile
        return evaluation.metrics

    @booked("evaluation")
    def infer(self, examples: Examples) -> Outputs:
        """Return the outputs of the present weights, in micro-batches of the training's budget."""
        training, most = self._experiment.training, self._micro_batches.most
        rows = self._experiment.evaluation.batch_size
        if most is None and rows is None:
            rows = training.batch_size  # never a whole split at once
        assert training.precision != "auto"  # a run has settled it
        precision = training.precision
        return self._task.infer(self.model, examples, rows, most, precision=precision)

    def evaluate_on(self, examples: Examples) -> Evaluation:
        """Score a split with the present weights.

        Raises:
            DivergedError: if an output is NaN or infinite, naming rows.
        """
        outputs = self.infer(examples)
        self._check_finite(examples, outputs)
        loss = float(outputs["loss"].sum(dtype=np.float64) / outputs["weight"].sum())
        metrics = {"loss": loss, **self._task.score(examples, outputs)}
        for hook in self.hooks:
            metrics |= hook.more_metrics(examples, outputs, self.infer)
        step = self.state.global_step
        epoch = self._eval_points.get(step, float(self.state.epoch or 0.0))
        return Evaluation(step, epoch, metrics, outputs)

    def _tell(self, metrics: dict[str, float], step: int) -> None:
        for hook in self.hooks:
            hook.on_metrics(metrics, step)

    def _flush(self) -> Callable[[], None]:
        """Let the hooks store what they received; return a function that waits for all."""
        waits = [hook.flush() for hook in self.hooks]

        def wait() -> None:
            for each in waits:
                each()

        return wait

    def _check_finite(self, examples: Examples, outputs: Outputs) -> None:
        for array in outputs.values():
            broken = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if broken.any():
                first = examples.rows.ids[examples.row[int(broken.argmax())]]
                raise DivergedError(
                    f"step {self.state.global_step}: the model's outputs are NaN or infinite on "
                    f"{int(broken.sum())} of {len(array)} rows, first on row {first}."
                )


class _Pace(TrainerCallback):  # type: ignore[misc]
    """Says when to evaluate and to save; tells the hooks of each step."""

    def __init__(self, tuner: FineTuner) -> None:
        self._tuner = tuner

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Book the step of the optimizer."""
        ledger().open("optimizer")

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Book what comes after it."""
        ledger().open("batches")

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Schedule the evaluations: only now the number of steps is known."""
        self._tuner.begin()

    def on_step_end(self, _: Any, __: Any, control: TrainerControl, **___: Any) -> TrainerControl:
        """Request an evaluation or a checkpoint when one is due."""
        for hook in self._tuner.hooks:
            hook.on_step()
        control.should_evaluate = self._tuner.is_due
        control.should_save = self._tuner.is_to_save
        return control


_LOGGED: Sequence[str] = ("loss", "grad_norm", "learning_rate")


def _arguments(experiment: Experiment, output_dir: Path) -> TrainingArguments:
    training = experiment.training
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        per_device_train_batch_size=training.batch_size,
        max_grad_norm=0.0,  # _get_grad_norm clips
        eval_strategy="no",  # _Pace requests evaluations
        logging_steps=training.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide what LossWatch is there to find
        save_strategy="no",  # the best weights are kept in memory
        use_cpu=not torch.accelerator.is_available(),
        seed=experiment.seed,
        report_to="none",  # only pipeline/tracking writes to MLflow
        disable_tqdm=True,
        remove_unused_columns=False,  # "row" must reach compute_loss
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # One run, one device: DataParallel would multiply the batch by the number of GPUs.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
