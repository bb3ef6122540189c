"""One run, from config to score: the five steps of fine-tuning, in order.

What accompanies a run comes in through hooks: its log, its search, fairness. Where a provider's
service trains, `pipeline.providers.hosted` has the same five steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.analysis.fairness import Fairness
from pipeline.common.process import without_gc
from pipeline.common.timing import booked
from pipeline.models import find_checkpoint
from pipeline.providers.attachment import Attachment
from pipeline.tracking.run_log import RunLog
from pipeline.training.hooks import TrialReports
from pipeline.training.lower_bound import lower_bound
from pipeline.training.outcome import ALONE, Result, Trial
from pipeline.training.prepare import load_model, prepare
from pipeline.training.probe import StepTimes

if TYPE_CHECKING:
    from pipeline.config.experiment import Experiment
    from pipeline.tracking import Record
    from pipeline.training.checkpoints import Checkpoints


def run(
    experiment: Experiment,
    record: Record,
    output_dir: Path,
    states: Checkpoints | Attachment,
    trial: Trial = ALONE,
) -> Result:
    """Fine-tune a model once, here or at a service, and return its scores.

    The score is that of the best evaluation; the best evaluation's weights are the ones that are
    tested and saved. Outside a search a run saves its model; a trial only if among the best so far.

    Args:
        experiment: everything that can change the result.
        record: the open MLflow run that gets parameters, metrics and artifacts.
        output_dir: scratch folder of this run.
        states: the run's own on disk, with its lock held; it resumes from the latest.
        trial: what it may ask of its search, if it belongs to one.

    Raises:
        TunewrightError: for what cannot work, NaN losses, and a changed model after reloading.
    """
    if isinstance(states, Attachment):
        from pipeline.providers.hosted import run_hosted

        return run_hosted(experiment, record, states, trial)
    return _train(experiment, record, output_dir, states, trial)


def _train(
    experiment: Experiment, record: Record, output_dir: Path, checkpoints: Checkpoints, trial: Trial
) -> Result:
    with booked("boot"), without_gc():
        from pipeline.training import results, speedups
        from pipeline.training.determinism import repeatable
        from pipeline.training.trainer import FineTuner

    # 1. Choose the model: its config and tokenizer now, its weights when they are needed.
    find_checkpoint(experiment.model)  # refused now if it cannot be; the next steps share it

    # 2. Prepare the data: rows, splits, token ids. The trials of a sweep share them.
    data = prepare(experiment, keep=True)
    log = RunLog(record, experiment, data)

    # 3. Choose the hyperparameters: the config's, into which a search has put its own.
    reports, fairness = TrialReports(experiment, trial), Fairness(experiment, data.task)
    hooks = [log, StepTimes(trial, data), reports, fairness, *trial.listeners]

    # 4. Fine-tune: from the start, from a pause, or from where an attempt was interrupted.
    resumed = None if trial.snapshot else checkpoints.latest()
    model = load_model(experiment, data.task, experiment.seed)
    with (
        repeatable(experiment.training) as exceptions,
        speedups.apply(
            experiment, model, data, fairness.prepare(data), in_sweep=checkpoints.of_trial
        ) as fast,
    ):
        tuner = FineTuner(experiment, fast, hooks, checkpoints, output_dir)
        tuner.fine_tune(trial.snapshot or resumed)
        result = results.of_training(experiment, tuner, reports.decision, record.run_id)

        # 5. Evaluate: the best weights on the validation split, and on the test split if read.
        judged = results.judge(tuner, data) if result.state == "complete" else None
        bias = fairness.report(judged, tuner.infer, record.run_id) if judged else {}
    result = log.outcome(result, tuner.evaluations, judged, exceptions, resumed)
    record.texts(bias)
    bound = lower_bound(experiment, model, data, tuner, judged, trial)  # no adapter is merged yet
    if judged and trial.is_kept(result.scores):
        log.model(model, output_dir / "model", tuner.evaluations)
    return log.close(result, tuner.spent, bound)
