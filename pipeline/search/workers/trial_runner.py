"""A trial as a Hydra job: its config composed, and run on each of its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from omegaconf import DictConfig
from optuna.trial import Trial

from pipeline.common.timing import booked
from pipeline.config.compose import changing, run_job
from pipeline.config.hydra_parts import reading_once
from pipeline.search.searchable import SEED, Outcome, TrialJob
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import (
    REPEATS,
    SOURCE,
    all_params,
    is_among_best,
    place_of,
    tries_before,
)
from pipeline.search.workers.outcomes import check_scores, mean_of, means_of
from pipeline.search.workers.reporter import Reporter

if TYPE_CHECKING:
    from pipeline.search.workers.worker import Worker


class TrialRunner:
    """Runs a worker's trials.

    Args:
        worker: with what configs are composed of.
        whole: the study, with the trials of all its stages.
    """

    def __init__(self, worker: Worker, whole: optuna.Study) -> None:
        self._worker = worker
        self._loader = reading_once(worker.context.config_loader)
        self._whole = whole

    def run(
        self, spec: StudySpec, trial: Trial, reporter: Reporter, before: Outcome | None
    ) -> Outcome:
        """Run a trial of a stage, on all its seeds; what ends the first one early ends it."""
        worker = self._worker
        if worker.extend is not None and before is None:
            worker.extend(worker.config, trial)
        overrides = spec.space.overrides(trial.params)
        if not spec.seeds:
            return self._run_job(spec, trial, reporter, overrides, before)
        outcomes: list[Outcome] = []
        for repeat, seed in enumerate(spec.seeds):
            reporter.judging = repeat == 0
            seeded = [*overrides, f"{SEED}={seed}"]
            outcome = self._run_job(spec, trial, reporter, seeded, before, repeat, outcomes)
            if outcome.state != "complete":
                return outcome
            outcomes.append(outcome)
            before = None
        trial.set_user_attr(REPEATS, [list(outcome.values) for outcome in outcomes])
        return mean_of(outcomes)

    def _run_job(
        self,
        spec: StudySpec,
        trial: Trial,
        reporter: Reporter,
        overrides: list[str],
        before: Outcome | None,
        repeat: int | None = None,
        earlier: Sequence[Outcome] = (),
    ) -> Outcome:
        """Compose a config and run it as a Hydra job of its own."""
        worker = self._worker
        with booked("compose"):
            config = self._loader.load_sweep_config(worker.config, [spec.naming, *overrides])
        with changing(config.hydra):
            config.hydra.job.id = f"{spec.name}-{trial.number}"
            config.hydra.job.num = trial.number
            if repeat is not None:
                config.hydra.job.id += f"-{repeat}"
                config.hydra.sweep.subdir = f"{config.hydra.sweep.subdir}-{repeat}"

        def is_kept(scores: Sequence[float]) -> bool:
            if repeat is not None and repeat + 1 < len(spec.seeds):
                return False  # the mean is known with the last seed, whose model stands for all
            every = [*(outcome.values for outcome in earlier), scores]
            number, keep = trial.number, worker.task.keep
            return is_among_best(self._whole, means_of(every), number, keep)

        trials = self._whole.get_trials(deepcopy=False)
        job = TrialJob(
            study=spec.name,
            number=trial.number,
            place=place_of(trial.number, trials),
            overrides=overrides,
            settings=worker.spec.space.settings(all_params(trial)),
            output_dir=Path(config.hydra.sweep.dir, str(config.hydra.sweep.subdir)).absolute(),
            folder=Path(config.hydra.sweep.dir).absolute(),
            is_kept=is_kept,
            report=reporter,
            note=trial.set_user_attr,
            before=before,
            reported=spec.pruner.get("metric"),
            repeat=repeat,
            earlier=tuple(earlier),
            stage=spec.stage,
            source=trial.user_attrs.get(SOURCE, ""),
            tries=tries_before(trial.user_attrs, trials),
        )

        def task(task_config: DictConfig) -> Outcome:
            with reporter.current(), booked("search"):
                outcome = worker.task.run(task_config, job)
            check_scores(outcome, len(spec.directions))
            return outcome

        with booked("compose"):
            outcome: Outcome = run_job(
                worker.context, config, task, "hydra.sweep.dir", "hydra.sweep.subdir"
            )
        return outcome
