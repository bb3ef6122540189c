"""Searching over our own runs: each trial an experiment, each study a parent run in MLflow."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from pipeline import run as runs
from pipeline.config import TrackingConfig, flat, validate
from pipeline.job import open_record, run_alone
from pipeline.search.searchable import Outcome, Searchable, TrialJob
from pipeline.search.study import REASON, StudySpec, best_first, finished
from pipeline.tasks.base import Direction
from pipeline.tracking import Store, open_store, studies, tags
from pipeline.trial import Trial

# What a trial keeps in the study beside its score.
RUN_ID, TRAIN_SECONDS, EVALUATE_SECONDS = "run_id", "train_seconds", "evaluate_seconds"


class ExperimentTask(Searchable):
    """`pipeline.run.run` as Hydra's task function, on its own or under a search."""

    def __init__(self) -> None:
        super().__init__(run_alone)
        self._parent_run_id = ""
        self._tracking: TrackingConfig | None = None

    def check(self, config: DictConfig) -> None:
        """Refuse a config that breaks the schema, or an objective that nothing produces."""
        runs.check(validate(config))

    def prepare(self, configs: Sequence[DictConfig]) -> None:
        """Refuse data, models and settings that cannot work, and a store out of reach."""
        experiments = [validate(config) for config in configs]
        for experiment in experiments:
            runs.inspect(experiment)
        open_store(experiments[0].tracking).connect()

    def directions(self, config: DictConfig) -> tuple[Direction, ...]:
        """Return the direction of the config's objective."""
        return (runs.direction(validate(config)),)

    def begin(self, config: DictConfig, spec: StudySpec, killed: Sequence[int]) -> None:
        """Open the study's parent run, and close what dead workers left."""
        experiment = validate(config)
        self._tracking = experiment.tracking
        space = {f"search.{key}": values for key, values in spec.space.describe().items()}
        fixed = spec.space.without(flat(config))
        self._parent_run_id = studies.open_study(
            self._store,
            spec.name,
            params={**space, "search.sampler": json.dumps(dict(spec.sampler)), **fixed},
            notes={
                tags.OBJECTIVE: experiment.evaluation.objective,
                tags.DIRECTION: spec.directions[0],
            },
        )
        studies.settle(self._store, spec.name, killed)

    def run(self, config: DictConfig, job: TrialJob) -> Outcome:
        """Run one trial under a record of its own, which a refused config gets as well."""
        run_tags = {tags.KIND: "trial", tags.STUDY: job.study, tags.TRIAL: str(job.number)}
        record = open_record(
            self._store, config, f"trial {job.number}", run_tags, job.overrides, self._parent_run_id
        )
        trial = Trial(job.is_best)
        with record:
            result = runs.run(validate(config), record, job.output_dir, trial)
        notes = {
            RUN_ID: result.run_id,
            TRAIN_SECONDS: result.train_seconds,
            EVALUATE_SECONDS: result.evaluate_seconds,
        }
        return Outcome([result.score], notes)

    def told(self, job: TrialJob, outcome: Outcome, best: FrozenTrial) -> None:
        """Add the trial to the study's own history, and name the best."""
        points = {"search/score": outcome.values[0], "search/best_score": best.values[0]}
        studies.log_progress(self._store, self._parent_run_id, job.number, points)
        if best.number == job.number:
            studies.set_best(self._store, self._parent_run_id, job.number, outcome.notes[RUN_ID])
        else:  # it may have been the best when it kept its model
            studies.delete_model(self._store, outcome.notes[RUN_ID])

    def end(self, study: optuna.Study, spec: StudySpec) -> None:
        """Store the table of trials with the study and end its run."""
        done = len(finished(study)) >= spec.n_trials
        ranked = best_first(study)
        state = "unfinished" if not done else "complete" if ranked else "failed"
        if ranked:  # again: a worker that was killed may have told the study but not MLflow
            best_run = ranked[0].user_attrs[RUN_ID]
            studies.set_best(self._store, self._parent_run_id, ranked[0].number, best_run)
        tables = {"trials.csv": _trials_csv(study, spec)}
        studies.close_study(self._store, self._parent_run_id, state, tables)

    def hints(self, study: optuna.Study, began: float) -> list[str]:
        """Say where the time went and what to do next."""
        assert self._tracking is not None
        mine = [
            t for t in finished(study) if t.datetime_start and t.datetime_start.timestamp() > began
        ]
        lines = []
        if mine:
            inside = sum(
                t.user_attrs.get(TRAIN_SECONDS, 0.0) + t.user_attrs.get(EVALUATE_SECONDS, 0.0)
                for t in mine
            )
            total = time.time() - began
            lines.append(
                f"time: {total:.1f} s in all, {inside:.1f} s training and evaluating, "
                f"{total - inside:.1f} s for everything else ({1 - inside / total:.1%})"
            )
        name, where = study.study_name, _ui_options(self._tracking)
        lines.append(f"best model and how to run it again: {_program()} best {name}{where}")
        lines.append(f"compare the trials in the MLflow UI: {_program()} ui{where}")
        return lines

    @property
    def _store(self) -> Store:
        assert self._tracking is not None  # set by begin, before any trial
        return open_store(self._tracking)


def _program() -> str:
    """Return how the user can call us: by the plain name, or by the path just used."""
    if shutil.which("tunewright"):
        return "tunewright"
    path = Path(sys.argv[0])
    if path.name != "tunewright":
        return f"{sys.executable} -m pipeline"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _ui_options(tracking: TrackingConfig) -> str:
    """Return the overrides that lead to a store that is not the default one."""
    given = "" if tracking.dir == "mlruns" else f" tracking.dir={tracking.dir}"
    return given + (f" tracking.uri={tracking.uri}" if tracking.uri else "")


def _trials_csv(study: optuna.Study, spec: StudySpec) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(spec.space.distributions)
    writer.writerow(["trial", *keys, "score", "state", RUN_ID, REASON])
    for t in finished(study):
        params = [t.params.get(key, "") for key in keys]
        score = "" if t.state == TrialState.FAIL else t.values[0]
        state = "failed" if t.state == TrialState.FAIL else "complete"
        notes = [t.user_attrs.get(RUN_ID, ""), t.user_attrs.get(REASON, "")]
        writer.writerow([t.number, *params, score, state, *notes])
    return text.getvalue()
