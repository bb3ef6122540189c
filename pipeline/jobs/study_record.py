"""A study's parent run in MLflow: opened, kept up as trials end, and closed with its results."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial

from pipeline.analysis.data_check import DataReport, inspect_splits
from pipeline.analysis.insights import insights
from pipeline.common.errors import RESUMES, amount
from pipeline.common.process import identity
from pipeline.common.secrets import masked, masked_override
from pipeline.common.tables import Cell, Table, render
from pipeline.common.timing import booked, ledger, summary
from pipeline.config.experiment import Experiment, validate
from pipeline.config.flat import flat, read_params
from pipeline.config.tracking import TrackingConfig
from pipeline.search.cost import Spent
from pipeline.search.spending import Spending
from pipeline.search.study.failures import why_hopeless
from pipeline.search.study.stages import Stages
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import (
    REASON,
    RUN_ID,
    RUNS,
    STAGE,
    STOP,
    all_params,
    best_first,
    ended,
    in_order_of_end,
    kind_of_failure,
    pareto_front,
    score_text,
    scores_of,
    spreads,
    state_of,
    why_ended,
)
from pipeline.tasks.objective import objectives
from pipeline.tracking import Store, commands, open_store, studies, tags
from pipeline.tracking.dead_runs import close_dead
from pipeline.tracking.descriptions import describe
from pipeline.tracking.kept_models import delete_model, trials_with_model
from pipeline.tracking.metrics import history
from pipeline.tracking.record import ACCOUNT, COST_FILE, RUN_SECONDS, log_datasets
from pipeline.tracking.runs import log_progress, log_texts, read_json, run_of
from pipeline.tracking.trials import trials_of
from pipeline.tracking.views import write_view
from pipeline.training.prepare import data_inputs
from pipeline.training.run_folders import drop, folder_of, has_job, left_in

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

log = logging.getLogger(__name__)

CHECK_FILE = "check.json"  # artifact of the study: what is odd about its data
KEEP = "keep_models"  # of a study's limits, where more than one model stays
SCORE, BEST = "search/score", "search/best_score"  # metrics of the study
SHOWN_WARNINGS = 3  # of the data, before the first trial


@dataclass
class StudyRecord:
    """What MLflow has of a study as a whole."""

    tracking: TrackingConfig
    run_id: str
    objectives: Sequence[str]  # as the config writes them
    metric: str  # of the first one
    learned: list[str] = field(default_factory=list)  # beyond the best trial, as text
    _kept: set[str] | None = None  # runs whose models stay; None: not looked up yet
    _kept_as: str | None = None  # its state where this start found it closed, and of this search
    _logged: dict[str, dict[int, float]] = field(default_factory=dict)  # metric -> step -> value

    @property
    def store(self) -> Store:
        """The store that it is in."""
        return open_store(self.tracking)

    @classmethod
    def open(
        cls,
        config: DictConfig,
        spec: StudySpec,
        digest: str,
        command: tuple[str, list[str]],
        *,
        runs: bool,
    ) -> StudyRecord:
        """Open the parent run, with the job's name and the overrides that run the study again.

        Where there is nothing to run, one that is closed stays so.
        """
        experiment = validate(config)
        searched = spec.space.describe()
        limits = {
            "n_trials": spec.budget.n_trials,
            "retries": spec.retries,
            "repeats": len(spec.seeds) or 1,
        }
        if experiment.tracking.keep_models > 1:  # as every record of an older version means it
            limits[KEEP] = experiment.tracking.keep_models
        store = open_store(experiment.tracking)
        run_id, kept_as = studies.open_study(
            store,
            spec.name,
            params={
                **{f"search.{key}": values for key, values in searched.items()},
                "search.sampler": json.dumps(dict(spec.sampler)),
                "search.pruner": json.dumps(dict(spec.pruner)),
                **spec.space.without(read_params(flat(config))),
                studies.DATA: digest,
            },
            notes={
                tags.OBJECTIVE: ", ".join(experiment.evaluation.objectives),
                tags.DIRECTION: ", ".join(spec.directions),
                tags.PROCESS: json.dumps(identity()),
                tags.LIMITS: json.dumps(limits),
                tags.SPACE: studies.space_note(searched),
                **commands.notes(spec.name, spec.storage, *command),
            },
            began=ledger().began,
            runs=runs,
        )
        if kept_as is None:
            describe(store, run_id)
            write_view(store, run_of(store, run_id))
        asked, metric = experiment.evaluation.objectives, objectives(experiment)[0].metric
        return cls(experiment.tracking, run_id, asked, metric, _kept_as=kept_as)

    @property
    def _run(self) -> Run:
        return run_of(self.store, self.run_id)

    def describe_data(self, experiment: Experiment) -> list[str]:
        """Look over the rows and log the report with the study; return what it says in short."""
        from pipeline.analysis.report import check_page

        known = read_json(self.store, self._run, CHECK_FILE)
        if known is not None:  # of an earlier start: a study is one of its data
            report = DataReport.read(known)
        else:
            report = inspect_splits(experiment)
            texts = {
                CHECK_FILE: json.dumps(report.as_tree(), ensure_ascii=False),
                "check.html": check_page(report, experiment.data.title),
            }
            log_texts(self.store, self.run_id, texts)
            log_datasets(self.store, self.run_id, data_inputs(experiment))
        worst = [f"  {finding.message}" for finding in report.of("warning")[:SHOWN_WARNINGS]]
        more = "; `tunewright check` says more" if worst else ""
        return [f"data: {report.summary}{more}", *worst]

    def progressed(self, study: optuna.Study, news: Sequence[FrozenTrial]) -> None:
        """Add trials to the study's own history, name the best, keep the models of the best."""
        complete = [t for t in news if state_of(t) == "complete"]
        if complete:
            self._log_scores(study)
        dead = [t.number for t in news if kind_of_failure(t) == "killed"]
        stopped = {
            t.number: why_ended(t) for t in news if STOP in t.user_attrs and state_of(t) == "pruned"
        }
        close_dead(self.store, study.study_name, dead, stopped)
        self._drop_jobs(news)
        if not best_first(study):
            return
        kept = self._with_models(study, complete)  # before: a trial that ends now may be the best
        stay = name_best(self.store, self.run_id, study, self.tracking.keep_models)
        for run_id in kept - stay:
            delete_model(self.store, run_id, of_study=study.study_name)
        self._kept = stay

    def _drop_jobs(self, trials: Sequence[FrozenTrial]) -> None:
        """Let go of jobs at services whose trials have their result."""
        for trial in trials:
            done = state_of(trial) == "complete"
            for run_id in trial.user_attrs.get(RUNS, []) if done else ():
                folder = folder_of(self.store.dir, run_id)
                if has_job(folder):
                    drop(folder)

    def _with_models(self, study: optuna.Study, new: Sequence[FrozenTrial]) -> set[str]:
        """Return the runs of complete trials that may have models."""
        if self._kept is not None:
            return self._kept | {t.user_attrs[RUN_ID] for t in new}
        # One that still runs has its model before it is complete.
        own = {t.user_attrs[RUN_ID] for t in ended(study, "complete")}
        return own & {run.info.run_id for run in trials_with_model(self.store, study.study_name)}

    def _log_scores(self, study: optuna.Study) -> None:
        """Log each complete trial's score, and the best so far, by the order of their ends.

        Where the study's space has changed, the best so far may be another one than was logged.
        """
        if not self._logged:
            self._logged = {k: history(self.store, self.run_id, k) for k in (SCORE, BEST)}
        for step, (trial, best) in enumerate(in_order_of_end(study), start=1):
            points = {SCORE: trial.values[0], **({BEST: best.values[0]} if best else {})}
            new = {k: v for k, v in points.items() if self._logged[k].get(step) != v}
            if new:
                log_progress(self.store, self.run_id, step, new)
            for key, value in new.items():
                self._logged[key][step] = value

    def end(
        self, study: optuna.Study, spec: StudySpec, spending: Spending, expected: Spent | None
    ) -> None:
        """Store the table of trials, costs and the page with the study, and end its run.

        The run ends when the cost is counted: the page, which shows it, is made after that. A
        record that says all this already stays as it is.
        """
        complete = bool(ended(study, "complete"))
        stages = Stages(study, spec)
        over = stages.is_done() or stages.why_stuck() or why_hopeless(study, spec.max_failure_rate)
        state = "unfinished" if not over else "complete" if complete else "failed"
        tables = {"trials.csv": _trials_csv(study, spec, self.objectives)}
        self._drop_jobs(ended(study))
        if over:  # what killed workers left
            own = {t.user_attrs.get(RUN_ID) for t in study.get_trials(deepcopy=False)}
            for run_id in left_in(self.store.dir):
                folder = folder_of(self.store.dir, run_id)
                if run_id in own and not has_job(folder):  # which `retry` goes on with
                    drop(folder)
        if over and complete:
            with booked("report"):
                tables |= self._learn(study, spec)
        found = spending.total
        if state == self._kept_as:
            return
        # With the forecast of an earlier start.
        costs = read_json(self.store, self._run, COST_FILE) or {}
        costs |= {"spent": asdict(found), ACCOUNT: spending.account.as_tree()}
        if expected is not None:
            costs["forecast"] = asdict(expected)
        tables[COST_FILE] = json.dumps(costs, indent=1)
        points = {
            RUN_SECONDS: found.seconds,
            "spent/machine_seconds": found.machine_seconds,
            "spent/disk": float(found.disk),
            "spent/kwh": found.kwh,
            "spent/usd": found.usd,
            **({"forecast/seconds": expected.seconds} if expected else {}),
        }
        log_progress(self.store, self.run_id, len(ended(study)), points)
        ended_at = self._run.info.end_time  # not moved where nothing was run
        end = spending.end if spending.runs else ended_at and ended_at / 1000
        studies.close_study(self.store, self.run_id, state, tables, end)
        # matplotlib is needed now, and not before
        from pipeline.analysis.report import most_important, write_page

        write_view(self.store, self._run, most_important(study))
        try:
            write_page(self.store, study, self.run_id)
        except Exception:  # must not hide how the search itself ended
            log.exception("no report page could be made; try: tunewright report")
        describe(self.store, self.run_id, [*_second(study), _ending(study), *self.learned])

    def _learn(self, study: optuna.Study, spec: StudySpec) -> dict[str, str]:
        """Return what the search is for beyond its best trial, by file; its words are kept."""
        found = insights(self.store, study, spec, self.metric)
        self.learned = [line for insight in found.values() for line in insight.lines()]
        return {f: json.dumps(one.as_tree(), ensure_ascii=False) for f, one in found.items()}

    def hints(self, study: optuna.Study, spending: Spending, *, confirms: bool) -> list[str]:
        """Say where the time went and what to do next."""
        lines = [*self.learned, *summary(spending.account, spending.starts)]
        name = shlex.quote(study.study_name)
        where = "".join(f" {shlex.quote(masked_override(o))}" for o in self.store.options)
        lines.append(f"best model and how to run it again: {_program()} best {name}{where}")
        if not (self.learned or confirms) and len(ended(study, "complete")) > 1:
            lines.append(
                f"check whether the winner beats the default: {_program()} confirm {name}{where}"
            )
        if self.tracking.keep_models > 1 and len(ended(study, "complete")) > 1:
            lines.append(f"average the best models: {_program()} soup {name}{where}")
        lines.append(f"compare the trials in the MLflow UI: {_program()} ui {name}{where}")
        return lines


def _second(study: optuna.Study) -> list[str]:
    """Say which trial comes after the best one, so that a reader sees by how much it won."""
    return [
        f"Second: trial {trial.number}, {score_text(trial)}" for trial in best_first(study)[1:2]
    ]


def _ending(study: optuna.Study) -> str:
    """Say how the trials of a study ended."""
    states = Counter(state_of(trial) for trial in ended(study))
    every = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{amount(states.total(), 'trial')}: {every or 'none is over'}"


def lost_study(store: Store, name: str, study: optuna.Study | None, storage: str) -> str:
    """Say of a study that MLflow has complete trials of it and its storage none, or nothing."""
    trials = study.get_trials(deepcopy=False) if study else []
    if any(RUN_ID in trial.user_attrs for trial in trials):
        return ""
    done = len(trials_of(store, name, f"tags.`{tags.STATE}` = 'complete'"))
    if not done:
        return ""
    return (
        f"study {name}: {masked(store.uri)} has {amount(done, 'complete trial')} of it, but "
        f"{storage} has none: it was lost, or is another one. Put it back, then {RESUMES}. "
        "Without it a new study can learn from them: hydra.sweeper.study_name=… "
        f"hydra.sweeper.warm_start=mlflow:{name}; or delete its runs in MLflow to begin it anew."
    )


def name_best(store: Store, parent_run_id: str, study: optuna.Study, keep: int) -> set[str]:
    """Name a study's best trial, and its Pareto front, in its parent run.

    Returns:
        The runs whose models stay: of the best ``keep`` trials, and of one that stands for them.
    """
    best, *others = best_first(study)[:keep]
    front = [t.number for t in pareto_front(study)] if len(study.directions) > 1 else []
    run_id = best.user_attrs[RUN_ID]
    stay = {run_id, *(t.user_attrs[RUN_ID] for t in others)}
    kept = studies.set_best(
        store, parent_run_id, best.number, run_id, score_text(best), front, stay
    )
    return stay | ({kept} if kept else set())


def _program() -> str:
    """Return how the user can call us: by the plain name, or by the path just used."""
    if shutil.which("tunewright"):
        return "tunewright"
    path = Path(sys.argv[0])
    if path.name != "tunewright":
        return f"{sys.executable} -m pipeline"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _trials_csv(study: optuna.Study, spec: StudySpec, goals: Sequence[str]) -> str:
    keys = list(spec.space.distributions)
    widths = [f"{goal}_sd" for goal in goals] if spec.seeds else []
    rows: list[list[Cell]] = []
    for t in ended(study):
        known = [*scores_of(t), *spreads(t)]
        values = [*known, *[None] * (len(goals) + len(widths) - len(known))]
        notes = [t.user_attrs.get(RUN_ID, ""), why_ended(t)]
        which = [t.number, *([t.user_attrs.get(STAGE)] if spec.stages else [])]
        known_params = all_params(t)
        params = [known_params.get(key) for key in keys]
        rows.append([*which, *params, *values, state_of(t), *notes])
    which_columns = ["trial", "stage"] if spec.stages else ["trial"]
    return render(
        Table([*which_columns, *keys, *goals, *widths, "state", RUN_ID, REASON], rows), "csv"
    )
