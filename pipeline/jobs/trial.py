"""Searching over our own runs: each trial an experiment, each study a parent run in MLflow."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, astuple
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from pipeline import run as runs
from pipeline.analysis.data_check import DataReport, inspect_splits
from pipeline.analysis.insights import insights
from pipeline.analysis.preflight import check_inputs, check_settings
from pipeline.common.contract import Direction, RunCost
from pipeline.common.process import identity
from pipeline.common.secrets import masked, masked_override
from pipeline.common.timing import LEDGER, Account, summary
from pipeline.config.compose import as_run
from pipeline.config.experiment import Experiment, validate
from pipeline.config.flat import OPEN, flat
from pipeline.config.tracking import TrackingConfig
from pipeline.jobs.prior_runs import prior_trials
from pipeline.jobs.single import Command, compute_as, open_record, run_alone, settle
from pipeline.search.cost import Spent
from pipeline.search.searchable import Outcome, PriorTrials, Searchable, TrialJob
from pipeline.search.space.space import Space
from pipeline.search.study.failures import why_hopeless
from pipeline.search.study.queue import is_done
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import (
    ACCOUNT,
    COMMAND,
    COSTED,
    REASON,
    REPEAT,
    RUN_ID,
    SECONDS,
    best_first,
    ended,
    kind_of_failure,
    score_text,
    spreads,
    state_of,
)
from pipeline.search.workers.child import Child, WorkerDiedError
from pipeline.search.workers.sizing import THREAD_VARIABLES, WorkerPlan, need
from pipeline.tasks.objective import COSTS, objectives, read_objective
from pipeline.tracking import Store, open_store, studies, tags
from pipeline.training.outcome import EPOCH, Result, Trial
from pipeline.training.prepare import splits_of, task_of
from pipeline.training.probe import run_costs
from pipeline.training.run_folders import can_go_on, drop, folder_of, left_in

log = logging.getLogger(__name__)

CHECK_FILE = "check.json"  # artifact of the study: what is odd about its data
SHOWN_WARNINGS = 3  # of the data, before the first trial


class ExperimentTask(Searchable):
    """`pipeline.run.run` as Hydra's task function, on its own or under a search."""

    unit = EPOCH
    can_pause = True

    def __init__(self, name: str = "", overrides: Sequence[str] = ()) -> None:
        super().__init__(run_alone)
        self._command = name, list(overrides)  # kept with the study, to be run again
        self._parent_run_id = ""
        self._tracking: TrackingConfig | None = None
        self._digest = ""  # of the data
        self._learnt: list[str] = []  # beyond the best trial, in words
        self._largest: tuple[int, Experiment] | None = None  # of what was prepared: training rows
        self._objective = ""  # the first one
        self.study_name = ""  # of the search, once it has begun
        self._origin: dict[str, Any] = {}  # what all trials come from

    def check(self, config: DictConfig) -> None:
        """Refuse a config that breaks the schema, or an objective that nothing produces."""
        check_settings(validate(config))

    def prepare(self, configs: Sequence[DictConfig]) -> dict[str, str]:
        """Refuse data, models and settings that cannot work.

        A study is one of its data and of its store: with other rows it is another one.
        """
        experiments = [validate(config) for config in configs]
        digests = []
        for experiment in experiments:
            digests.append(check_inputs(experiment))
            rows = len(splits_of(experiment).train)
            if self._largest is None or rows > self._largest[0]:
                self._largest = rows, experiment
        tracking = experiments[0].tracking
        self._digest = ", ".join(dict.fromkeys(digests))
        return {
            "data": self._digest,
            "tracking.uri": str(tracking.uri),
            "tracking.experiment": tracking.experiment,
        }

    def footprint(self, configs: Sequence[DictConfig]) -> int:
        """Return the memory that the largest model needs; no weights are read."""
        experiments = {e.model: e for e in map(validate, configs)}.values()
        return max(need(task_of(experiment).count_parameters()) for experiment in experiments)

    def costs(self, configs: Sequence[DictConfig], plan: WorkerPlan) -> Sequence[RunCost]:
        """Time a few steps as a worker would make them: here where it is the only one."""
        experiments = [validate(config) for config in configs]
        if plan.workers == 1:
            return run_costs(experiments)
        threads = dict.fromkeys(THREAD_VARIABLES, str(plan.cores_each))
        child = Child(run_costs, (experiments,), threads)
        try:
            if not child.join():
                raise WorkerDiedError("the process that was to time a few steps died")
            costs: Sequence[RunCost] = child.result
        finally:
            child.end()
        return costs

    def connect(self, config: DictConfig) -> None:
        """Refuse a store out of reach; a local one is made."""
        open_store(validate(config).tracking).connect()

    def directions(self, config: DictConfig) -> tuple[Direction, ...]:
        """Return the directions of the config's objectives, by the metrics' own definition."""
        return tuple(objective.direction for objective in objectives(validate(config)))

    def reported(self, config: DictConfig, metric: str) -> Direction:
        """Return the direction of the metric that the pruner is to go by."""
        return read_objective(validate(config), metric, "hydra.sweeper.pruner.metric").direction

    def prior_trials(self, config: DictConfig, source: str, space: Space) -> PriorTrials:
        """Return the complete runs in MLflow that this search could have made."""
        store = open_store(validate(config).tracking)
        return prior_trials(store, config, self._digest, source, space)

    def begin(self, config: DictConfig, spec: StudySpec) -> None:
        """Open the study's parent run."""
        experiment = validate(config)
        self._tracking = experiment.tracking
        self.study_name = spec.name
        self._objective = objectives(experiment)[0].metric
        # A trial's sampler is made of the study's seed and the trial's place, see SeededSampler.
        self._origin = {
            "study": spec.name,
            "storage": masked(spec.storage),
            "sampler": dict(spec.sampler),
            "sampler_seed": spec.seed,
        }
        searched = spec.space.describe()
        options = {
            "search.sampler": json.dumps(dict(spec.sampler)),
            "search.pruner": json.dumps(dict(spec.pruner)),
        }
        self._parent_run_id = studies.open_study(
            self._store,
            spec.name,
            params={
                **{f"search.{key}": values for key, values in searched.items()},
                **options,
                **spec.space.without(flat(config)),
                studies.DATA: self._digest,
            },
            notes={
                tags.OBJECTIVE: ", ".join(experiment.evaluation.objectives),
                tags.DIRECTION: ", ".join(spec.directions),
                tags.STORAGE: masked(spec.storage),
                tags.PROCESS: json.dumps(identity()),
                tags.LIMITS: json.dumps(
                    {
                        "n_trials": spec.budget.n_trials,
                        "retries": spec.retries,
                        "repeats": len(spec.seeds) or 1,
                    }
                ),
                tags.SPACE: studies.space_note(searched),
                **studies.command_notes(*self._command),
            },
        )

    def describe_data(self, config: DictConfig) -> list[str]:
        """Look over the rows and log the report with the study; return what it says in short."""
        experiment = validate(config) if self._largest is None else self._largest[1]
        from pipeline.analysis.report import check_page

        run = studies.run_of(self._store, self._parent_run_id)
        known = studies.read_text(self._store, run, CHECK_FILE)
        if known is not None:  # of an earlier start: a study is one of its data
            report = DataReport.read(json.loads(known))
        else:
            report = inspect_splits(experiment)
            texts = {
                CHECK_FILE: json.dumps(report.as_tree(), ensure_ascii=False),
                "check.html": check_page(report, experiment.data.title),
            }
            studies.log_texts(self._store, self._parent_run_id, texts)
        worst = [f"  {finding.message}" for finding in report.of("warning")[:SHOWN_WARNINGS]]
        more = "; `tunewright check` says more" if worst else ""
        return [f"data: {report.summary}{more}", *worst]

    def spent(self, expected: Spent, found: Spent) -> None:
        """Log both with the study."""
        points = {**expected.metrics("forecast"), **found.metrics("spent")}
        studies.log_progress(self._store, self._parent_run_id, 0, points)
        costs = json.dumps({"forecast": asdict(expected), "spent": asdict(found)})
        studies.log_texts(self._store, self._parent_run_id, {"cost.json": costs})

    def disk(self, study: optuna.Study) -> int:
        """Return the bytes of the trials' artifacts, where they lie on this machine."""
        return studies.bytes_of(studies.trials_of(self._store, study.study_name))

    def run(self, config: DictConfig, job: TrialJob) -> Outcome:
        """Run one trial under a record of its own, which a refused config gets as well."""
        accounts = [outcome.kept.account for outcome in job.earlier]
        try:
            result = self._recorded(config, job)
        except BaseException:
            lost = Account(LEDGER.take(), 0.0)  # else the next one would have it
            held = [job.before.kept.account] if job.before else []
            with suppress(Exception):  # the study may be out of reach: the error itself counts
                job.note(ACCOUNT, astuple(sum([*accounts, *held], lost)))
            raise
        costs = {key: result.metrics[key] for key in COSTS if key in result.metrics}
        job.note(COSTED, costs)
        job.note(SECONDS, sum(o.kept.seconds for o in job.earlier) + result.seconds)
        job.note(ACCOUNT, astuple(sum(accounts, result.account)))
        return Outcome(result.scores, result.state, result.excesses, result)

    def _recorded(self, config: DictConfig, job: TrialJob) -> Result:
        run_tags = {tags.KIND: "trial", tags.STUDY: job.study, tags.TRIAL: str(job.number)}
        name = f"trial {job.number}"
        if job.repeat is not None:
            run_tags[tags.REPEAT] = str(job.repeat)
            name += f", repeat {job.repeat}"
        before: Result | None = job.before.kept if job.before else None
        cut_off = self._cut_off(job)
        if going_on := before.run_id if before else cut_off:
            compute_as(self._store, config, going_on)
        settle(config)
        record = open_record(
            self._store,
            config,
            name,
            run_tags,
            Command(job.overrides, Command.of(HydraConfig.get()).choices),
            {**self._origin, "trial": job.number, "repeat": job.repeat, "place": job.place},
            self._parent_run_id,
            before.run_id if before else cut_off,
            was_cut_off=cut_off is not None,
        )
        job.note(RUN_ID, record.run_id)
        job.note(REPEAT, job.repeat)
        shown = [masked_override(override) for override in job.overrides]
        job.note(COMMAND, as_run(shown, {key: OmegaConf.select(config, key) for key in OPEN}))
        snapshot = before.snapshot if before else None
        trial = Trial(
            job.is_best,
            job.report,
            job.report.check_time,
            reported=job.reported,
            snapshot=snapshot,
            resumed=partial(_take_over, job),
        )
        with record:
            return runs.run(validate(config), record, job.output_dir, trial)

    def _cut_off(self, job: TrialJob) -> str | None:
        """Return the run that a killed try of this point left with a state on disk."""
        tries = (killed.user_attrs for killed in job.killed if RUN_ID in killed.user_attrs)
        known = next(tries, None) if job.before is None else None
        if known is None or known.get(REPEAT) != job.repeat:
            return None
        run_id: str = known[RUN_ID]
        return run_id if can_go_on(folder_of(self._store.dir, run_id)) else None

    def free_memory(self) -> None:
        """Collect what a trial left, on the GPU too."""
        import torch

        super().free_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def dropped(self, outcome: Outcome) -> None:
        """Close the run of a paused trial that will not be resumed."""
        studies.end_pruned(self._store, outcome.kept.run_id)

    def progressed(self, study: optuna.Study, news: Sequence[FrozenTrial]) -> None:
        """Add trials to the study's own history, name the best, keep no model but its."""
        ranked = best_first(study)
        for trial in news:
            if state_of(trial) == "complete":
                points = {"search/score": trial.values[0], "search/best_score": ranked[0].values[0]}
                studies.log_progress(self._store, self._parent_run_id, trial.number, points)
        dead = [t.number for t in news if kind_of_failure(t) == "killed"]
        studies.settle(self._store, study.study_name, dead)
        if not ranked:
            return
        best = ranked[0]
        studies.set_best(
            self._store,
            self._parent_run_id,
            best.number,
            best.user_attrs[RUN_ID],
            score_text(best),
        )
        for trial in news:
            if state_of(trial) == "complete" and trial.number != best.number:
                run_id = trial.user_attrs[RUN_ID]
                studies.delete_model(self._store, run_id, of_study=study.study_name)

    def end(self, study: optuna.Study, spec: StudySpec) -> None:
        """Store the table of trials and the page with the study, and end its run."""
        complete = bool(ended(study, "complete"))
        over = is_done(study, spec) or why_hopeless(study, spec.max_failure_rate)
        state = "unfinished" if not over else "complete" if complete else "failed"
        tables = {"trials.csv": _trials_csv(study, spec)}
        if over:  # what killed workers left
            own = {t.user_attrs.get(RUN_ID) for t in study.get_trials(deepcopy=False)}
            for run_id in left_in(self._store.dir):
                if run_id in own:
                    drop(folder_of(self._store.dir, run_id))
        accounts = _accounts(ended(study))
        if accounts:
            points = sum(accounts[1:], accounts[0]).metrics
            studies.log_progress(self._store, self._parent_run_id, len(accounts), points)
        if over and complete:
            tables |= self._learn(study, spec)
        studies.close_study(self._store, self._parent_run_id, state, tables)
        from pipeline.analysis.report import write_page  # matplotlib is needed now, and not before

        try:
            write_page(self._store, study, self._parent_run_id)
        except Exception:  # must not hide how the search itself ended
            log.exception("no report page could be made; try: tunewright report")

    def _learn(self, study: optuna.Study, spec: StudySpec) -> dict[str, str]:
        """Return what the search is for beyond its best trial, by file; its words are kept."""
        found = insights(self._store, study, spec, self._objective)
        self._learnt = [line for insight in found.values() for line in insight.lines()]
        return {f: json.dumps(one.as_tree(), ensure_ascii=False) for f, one in found.items()}

    def hints(self, study: optuna.Study, began: float, workers: int) -> list[str]:
        """Say where the time went and what to do next."""
        assert self._tracking is not None
        mine = [
            t for t in ended(study) if t.datetime_start and t.datetime_start.timestamp() > began
        ]
        wall = time.time() - began
        lines = [*self._learnt, *summary(_accounts(mine), wall, workers)]
        name, where = study.study_name, _ui_options(self._tracking)
        lines.append(f"best model and how to run it again: {_program()} best {name}{where}")
        if not self._learnt and len(ended(study, "complete")) > 1:
            lines.append(
                f"check whether the winner beats the default: {_program()} confirm {name}{where}"
            )
        lines.append(f"compare the trials in the MLflow UI: {_program()} ui{where}")
        return lines

    @property
    def _store(self) -> Store:
        assert self._tracking is not None  # set by begin, before any trial
        return open_store(self._tracking)


def _accounts(trials: Sequence[FrozenTrial]) -> list[Account]:
    return [Account(*t.user_attrs[ACCOUNT]) for t in trials if ACCOUNT in t.user_attrs]


def _take_over(job: TrialJob, epoch: float) -> None:
    """Take what killed tries of the point reported up to the state that this one resumes from."""
    reached = round(epoch * EPOCH)
    for killed in reversed(job.killed):
        values = killed.intermediate_values.items()
        job.report.take_over({step: value for step, value in values if step <= reached})


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
    scores = ["score", *(f"score_{n}" for n in range(2, len(spec.directions) + 1))]
    widths = [f"{score}_sd" for score in scores] if spec.seeds else []
    writer.writerow(["trial", *keys, *scores, *widths, "state", RUN_ID, REASON])
    for t in ended(study):
        params = [t.params.get(key, "") for key in keys]
        known = [*t.values, *spreads(t)] if state_of(t) == "complete" else []
        values = [*known, *[""] * (len(scores) + len(widths) - len(known))]
        notes = [t.user_attrs.get(RUN_ID, ""), t.user_attrs.get(REASON, "")]
        writer.writerow([t.number, *params, *values, state_of(t), *notes])
    return text.getvalue()
