"""One run at a provider's service: the five steps of `pipeline.run`, each asked of the service."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from pipeline.common.errors import SearchStopped, TrialStoppedError, TrialTimeoutError
from pipeline.common.timing import Account, booked, ledger
from pipeline.providers.answers import Asking
from pipeline.providers.findings import USD, Findings
from pipeline.providers.money import dollars
from pipeline.providers.patience import Patience
from pipeline.providers.plan import plan
from pipeline.providers.service import ServiceError
from pipeline.providers.tuning import Tuning
from pipeline.tasks.objective import constraints, objectives
from pipeline.tracking.record import ACCOUNT, COST_FILE
from pipeline.training.outcome import ALONE, RUN_LOGGER, Result, Trial
from pipeline.training.prepare import inputs

if TYPE_CHECKING:
    from pipeline.config.experiment import Experiment
    from pipeline.providers.attachment import Attachment
    from pipeline.tracking import Record

# What ends a run for good: its user, its search or its time.
ENDS = (SearchStopped, TrialStoppedError, TrialTimeoutError)
_SHORT = {"validation": "val"}  # splits that metrics call otherwise

log = logging.getLogger(RUN_LOGGER)


def run_hosted(
    experiment: Experiment, record: Record, attached: Attachment, trial: Trial = ALONE
) -> Result:
    """Have a service fine-tune a model once; return the scores of what that model replies.

    Args:
        experiment: everything that can change the result and that the service lets be chosen.
        record: the open MLflow run that gets parameters, metrics and artifacts.
        attached: the run's job as far as an earlier try came, with its lock held.
        trial: what it may ask of its search, if it belongs to one.

    Raises:
        TunewrightError: for what cannot work, and what the service refuses or does not answer.
    """
    # 1. Choose the model, by its name, and 2. prepare the data: rows in the service's layout.
    with booked("data"):
        planned = plan(experiment)
    patience = Patience(planned.config, trial.check)
    tuning = Tuning(planned, patience, attached, record, experiment.seed)
    mark = tuning.mark
    try:
        patience(planned.check_model)
        record.inputs(inputs(experiment))
        for warning in planned.splits.warnings:
            log.warning("data: %s", warning)

        # 3. Choose the hyperparameters: the config's. The search must have left what they cost.
        log.info("forecast: %s", planned.cost)
        trial.charge(mark, planned.cost.usd, attached.state.asked)

        # 4. Fine-tune: a job, which an earlier try may have begun.
        tuned = tuning.run()

        # 5. Evaluate: its replies on the validation split, and on the test split if read.
        asking = Asking(planned, experiment.seed, attached, patience)
        judged = {
            _SHORT.get(split, split): asking.answered(tuned.model, split, rows)
            for split, rows in planned.splits.by_name.items()
            if split != "train"
        }
    except ENDS:
        tuning.cancel()
        raise
    except ServiceError as error:
        raise error.with_remedy(attached.remedy) from error
    finally:
        if not (tuning.is_paid or attached.state.asked):
            trial.charge(mark, 0.0, True)
    found = Findings(planned, tuned, judged)
    found.log(record, experiment)
    result = _result(experiment, record.run_id, found.metrics)
    trial.charge(mark, found.metrics[USD], True)
    trial.report(result.score, float(planned.cost.epochs))
    log.info("score %.4f, %s", result.score, dollars(found.metrics[USD]))
    record.text(json.dumps({ACCOUNT: result.account.as_tree()}, indent=1), COST_FILE)
    return result


def _result(experiment: Experiment, run_id: str, metrics: dict[str, float]) -> Result:
    return Result(
        state="complete",
        run_id=run_id,
        scores=tuple(goal.score([metrics[goal.metric]]) for goal in objectives(experiment)),
        excesses={one.text: one.excess(metrics[one.metric]) for one in constraints(experiment)},
        metrics=metrics,
        account=Account(ledger().take()),
    )
