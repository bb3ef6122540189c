"""What is refused before a run starts: bad settings at once, then data, model and optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.analysis.fairness import check_fairness
from pipeline.common.contract import Precision
from pipeline.common.errors import ConfigError
from pipeline.common.process import without_gc
from pipeline.config.experiment import Experiment
from pipeline.providers.plan import Priced, check_hosted, priced
from pipeline.tasks.objective import check_comparable, check_labels, constraints, objectives
from pipeline.tracking import open_store
from pipeline.training.prepare import check_model, early_positions, prepare, splits_of, task_of
from pipeline.training.probe import settled_precision
from pipeline.training.starting_rate import said_of_rates


@dataclass(frozen=True)
class Inputs:
    """What the data and models of a search's trials are found to be."""

    digests: list[str]  # of each trial's rows
    precision: Precision  # that ``auto`` stands for in all of them
    rates: list[str]  # what to say of their learning rates
    parameters: int  # of the largest model that is trained here
    prices: list[Priced]  # of the trials that services train


def check_all(experiments: Sequence[Experiment]) -> Inputs:
    """Refuse what only data, models and optimizers of these trials can show, as `check_inputs`.

    Raises:
        ConfigError: also where their scores cannot be compared.
    """
    digests = [check_inputs(experiment) for experiment in experiments]
    here = [experiment for experiment in experiments if not experiment.hosted]
    check_comparable(here)
    models = {experiment.model: experiment for experiment in here}.values()
    return Inputs(
        digests,
        settled_precision(here),
        said_of_rates(here),
        max((task_of(experiment).count_parameters() for experiment in models), default=0),
        priced(experiments),
    )


def check_settings(experiment: Experiment) -> None:
    """Refuse what can be refused before anything heavy is imported.

    Raises:
        ConfigError: for an unknown task, or an objective that the task does not produce.
        TrackingError: for a local store that cannot be written.
    """
    objectives(experiment)
    constraints(experiment)
    open_store(experiment.tracking).check_writable()


@without_gc()
def check_inputs(experiment: Experiment) -> str:
    """Refuse what only data, model and optimizer can show, before a run is recorded.

    Returns:
        A digest of the rows, in their splits and order.

    Raises:
        DataError: for rows that cannot be read, labelled, split or learned from; for a sample that
            is too small.
        ModelError: for a checkpoint that does not exist or cannot do the task.
        ConfigError: for a `max_length` that the model cannot read, an objective of a label that
            the data lacks, an adapter that the model cannot have, hyperparameters that the
            optimizer or the schedule cannot take, or evaluations or checkpoints that are too many
            or after the end.
    """
    if experiment.hosted:
        return check_hosted(experiment)
    from pipeline.models import find_checkpoint
    from pipeline.training.layer_rates import check_rates
    from pipeline.training.loss_scale import check_precision
    from pipeline.training.optimizer import check_optimizer, warmup_steps
    from pipeline.training.points import Length, checkpoint_points, evaluation_points
    from pipeline.training.starting_rate import optimizer_of

    training = experiment.training
    check_precision(training.precision)
    check_optimizer(optimizer_of(experiment))
    checkpoint = find_checkpoint(experiment.model)
    checkpoint.check_length(training.max_length)
    checkpoint.count_stored()  # refuses a file of weights that is broken
    splits, task = splits_of(experiment), task_of(experiment)
    task.check()
    check_model(experiment, task)
    if (experiment.optimizer.layer_decay, experiment.optimizer.head_multiplier) != (1, 1):
        check_rates(experiment.optimizer, task.outline())
    check_labels(experiment, task.labels)
    check_fairness(experiment)
    early_positions(experiment, splits.validation)
    examples = len(splits.train)
    if task.encoding_refuses:  # and may make more or fewer examples than there are rows
        examples = len(prepare(experiment).examples["train"].dataset)
    length = Length.of(training, examples)
    if not length.steps and not task.is_ready:
        raise ConfigError(
            f"training.epochs=0: {checkpoint.name} cannot do task={experiment.task.name} without "
            "training: it has no head for these data; expected another model, or more epochs."
        )
    warmup_steps(experiment.schedule, length.steps)
    evaluation_points(training, length)
    checkpoint_points(training, length)
    return splits.digest
