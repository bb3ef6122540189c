"""A worker asks the study for a trial, runs it in this warm process, tells the study, and again."""

from __future__ import annotations

import gc
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from optuna.trial import Trial, TrialState

from pipeline.compose import run_job
from pipeline.search.searchable import Outcome, Searchable, TrialJob
from pipeline.search.study import REASON, StudySpec, best_first, claim, is_best, too_many_failed
from pipeline.tracking.record import reason

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """The task function that a launcher runs: one worker, many trials. Picklable."""

    spec: StudySpec
    context: HydraContext
    config: DictConfig  # the sweep's own, with the hydra node
    task: Searchable
    extend: Any = None  # custom_search_space: f(config, trial) that suggests further parameters

    def __call__(self, _: DictConfig) -> None:
        """Run trials until the budget is used up or too many have failed."""
        study = self.spec.open()
        warm = False
        while not too_many_failed(study, self.spec):
            trial = claim(study, self.spec)
            if trial is None:
                return
            self._run(study, trial)
            if not warm:
                # What the first trial imported stays for good. Taken out of the collector's sight,
                # it no longer costs each later collection (accelerate makes one a trial) 0.4 s.
                gc.collect()
                gc.freeze()
                warm = True

    def _run(self, study: optuna.Study, trial: Trial) -> None:
        try:
            job, outcome = self._launch(study, trial)
        except (Exception, SystemExit) as error:  # Ctrl-C leaves the trial to the next start
            trial.set_user_attr(REASON, reason(error))
            study.tell(trial, state=TrialState.FAIL)
            return
        for key, value in outcome.notes.items():
            trial.set_user_attr(key, value)
        study.tell(trial, list(outcome.values))
        try:
            self.task.told(job, outcome, best_first(study)[0])
        except Exception:  # the trial is safe in the study; the end of the search tells again
            log.exception("trial %d is done, but its study's record is behind", trial.number)

    def _launch(self, study: optuna.Study, trial: Trial) -> tuple[TrialJob, Outcome]:
        """Compose a trial's config and run it as a Hydra job of its own."""
        if self.extend is not None:
            self.extend(self.config, trial)
        overrides = self.spec.space.overrides(trial.params)
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.sweeper.study_name = self.spec.name
            config.hydra.job.id = f"{self.spec.name}-{trial.number}"
            config.hydra.job.num = trial.number
        job = TrialJob(
            study=self.spec.name,
            number=trial.number,
            overrides=overrides,
            output_dir=Path(config.hydra.sweep.dir, str(config.hydra.sweep.subdir)).absolute(),
            is_best=lambda score: is_best(study, score),
        )

        def task(task_config: DictConfig) -> Outcome:
            outcome = self.task.run(task_config, job)
            _check(outcome, len(self.spec.directions))
            return outcome

        outcome = run_job(self.context, config, task, "hydra.sweep.dir", "hydra.sweep.subdir")
        return job, outcome


def _check(outcome: Outcome, objectives: int) -> None:
    """Refuse scores that the study cannot take."""
    if len(outcome.values) != objectives:
        raise ValueError(f"found {len(outcome.values)} scores, expected {objectives}")
    if not all(math.isfinite(v) for v in outcome.values):
        raise ValueError(f"the score is {list(outcome.values)}, expected finite numbers")
