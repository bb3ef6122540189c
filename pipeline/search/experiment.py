"""Searching over our own runs: each trial an experiment, each study a parent run in MLflow."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from pipeline import run as runs
from pipeline.config import TrackingConfig, flatten, validate
from pipeline.search.searchable import Outcome, Searchable, TrialJob
from pipeline.search.space import Space
from pipeline.search.study import REASON, StudySpec, best_first, finished
from pipeline.tasks.base import Direction
from pipeline.tracking import Record, Store, open_store, studies, tags
from pipeline.trial import Result, Trial

# What a trial keeps in the study beside its score.
RUN_ID, TRAIN_SECONDS, EVALUATE_SECONDS = "run_id", "train_seconds", "evaluate_seconds"


class ExperimentTask(Searchable):
    """`pipeline.run.run` as Hydra's task function, on its own or under a search."""

    def __init__(self) -> None:
        super().__init__(self._run_alone)
        self._parent_run_id = ""
        self._tracking: TrackingConfig | None = None

    def check(self, config: DictConfig) -> None:
        """Refuse a config that breaks the schema, or an objective that nothing produces."""
        runs.check(validate(config))

    def prepare(self, config: DictConfig, space: Space) -> None:
        """Read and encode the data once, unless the search is over just that."""
        swept = {key.split(".")[0] for key in space.distributions}
        if not swept & {"data", "model", "task"}:
            runs.prepare(validate(config))
        open_store(validate(config).tracking).connect()

    def directions(self, config: DictConfig) -> tuple[Direction, ...]:
        """Return the direction of the config's objective."""
        return (runs.direction(validate(config)),)

    def begin(self, config: DictConfig, spec: StudySpec, settled: Sequence[int]) -> None:
        """Open the study's parent run, and close what dead workers left."""
        experiment = validate(config)
        self._tracking = experiment.tracking
        space = {f"search.{key}": values for key, values in spec.space.describe().items()}
        fixed = {k: v for k, v in _flat(config).items() if k not in spec.space.distributions}
        self._parent_run_id = studies.open_study(
            self._store,
            spec.name,
            params={**space, "search.sampler": json.dumps(dict(spec.sampler)), **fixed},
            notes={
                tags.OBJECTIVE: experiment.evaluation.objective,
                tags.DIRECTION: spec.directions[0],
            },
        )
        for number in settled:
            studies.settle_trial(self._store, spec.name, number)

    def run(self, config: DictConfig, job: TrialJob) -> Outcome:
        """Run one trial under a record of its own, which a refused config gets as well."""
        run_tags = {tags.KIND: "trial", tags.STUDY: job.study, tags.TRIAL: str(job.number)}
        record = _open_record(
            self._store, config, f"trial {job.number}", run_tags, job.overrides, self._parent_run_id
        )
        trial = Trial(job.study, job.number, self._parent_run_id, job.is_best)
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

    def end(self, study: optuna.Study, spec: StudySpec) -> None:
        """Store the table of trials with the study and end its run."""
        done = len(finished(study)) >= spec.n_trials
        state = "unfinished" if not done else "complete" if best_first(study) else "failed"
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
        lines.append(f"best model and how to run it again: tunewright best {name}{where}")
        lines.append(f"compare the trials in the MLflow UI: tunewright ui{where}")
        return lines

    @property
    def _store(self) -> Store:
        assert self._tracking is not None  # set by begin, before any trial
        return open_store(self._tracking)

    def _run_alone(self, config: DictConfig) -> Result:
        experiment = validate(config)
        hydra = HydraConfig.get()
        record = _open_record(
            open_store(experiment.tracking),
            config,
            Path(hydra.runtime.output_dir).name,
            {tags.KIND: "run"},
            list(hydra.overrides.task),
        )
        with record:
            return runs.run(experiment, record, Path(hydra.runtime.output_dir))


def _open_record(
    store: Store,
    config: DictConfig,
    name: str,
    run_tags: dict[str, str],
    overrides: Sequence[str],
    parent_run_id: str | None = None,
) -> Record:
    """Open a run's record with its parameters, config and command line."""
    hydra = HydraConfig.get()
    command = json.dumps(list(overrides), ensure_ascii=False)
    record = Record(
        store, name, _flat(config), {**run_tags, tags.OVERRIDES: command}, parent_run_id
    )
    record.text(OmegaConf.to_yaml(config, resolve=True), "config.yaml")
    record.text(OmegaConf.to_yaml(list(overrides)), "overrides.yaml")
    record.log_file(Path(hydra.runtime.output_dir, f"{hydra.job.name}.log"))
    return record


def _flat(config: DictConfig) -> dict[str, Any]:
    tree = OmegaConf.to_container(config, resolve=True)
    assert isinstance(tree, dict)
    return flatten(tree)


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
