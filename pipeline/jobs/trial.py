"""Searching over our own runs: each trial an experiment, each study a parent run in MLflow."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import astuple, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from pipeline.analysis.preflight import check_all, check_settings
from pipeline.common.contract import Direction, Precision, RunCost
from pipeline.common.errors import ConfigError, TrackingError
from pipeline.common.process import identity
from pipeline.common.secrets import masked, masked_override
from pipeline.common.timing import Account, ledger
from pipeline.config.compose import as_run, left_open
from pipeline.config.experiment import Experiment, validate
from pipeline.config.flags import flags
from pipeline.config.flat import AUTO, RATE, as_tree, check_read
from pipeline.config.migrations import migrated_settings
from pipeline.config.tracking import TrackingConfig
from pipeline.config.untrusted_command import check_chosen
from pipeline.jobs.aside import aside
from pipeline.jobs.former_studies import former_studies
from pipeline.jobs.prior_runs import prior_trials
from pipeline.jobs.single import (
    Command,
    compute_as,
    fix_open_choices,
    is_hosted,
    open_record,
    open_states,
    run_alone,
)
from pipeline.jobs.study_record import StudyRecord, lost_study
from pipeline.providers.money import dollars
from pipeline.providers.plan import Priced
from pipeline.run import run
from pipeline.search.cost import Spent
from pipeline.search.searchable import FormerStudy, Outcome, PriorTrials, Searchable, TrialJob
from pipeline.search.space.space import Space
from pipeline.search.spending import Spending
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import ACCOUNT, COMMAND, RAN, RUN_ID, RUNS, TIMING
from pipeline.search.workers.child import in_child
from pipeline.search.workers.sizing import THREAD_VARIABLES, WorkerPlan, need
from pipeline.tasks.objective import COSTS, objectives, read_objective
from pipeline.tracking import Store, open_store, tags
from pipeline.tracking.dead_runs import close_killed, connect_and_close_dead
from pipeline.tracking.descriptions import describe, described
from pipeline.tracking.kept_models import bytes_of
from pipeline.tracking.names import searched_note, trial_colour, trial_name
from pipeline.tracking.signature import cannot_sign
from pipeline.tracking.trials import close_trial, trials_of
from pipeline.training.lower_bound import settle_rate
from pipeline.training.outcome import EPOCH, Result, Trial
from pipeline.training.prepare import splits_of
from pipeline.training.probe import costs_by_trial, run_costs, with_precision
from pipeline.training.run_folders import can_resume, folder_of, has_job
from pipeline.training.starting_rate import starting_rate

if TYPE_CHECKING:
    from pipeline.providers.attachment import Attachment
    from pipeline.training.checkpoints import Checkpoints

log = logging.getLogger(__name__)

PRECISION = "training.precision"  # key of the config, and user attribute of a study


@dataclass(frozen=True)
class Checked:
    """Overrides of a logged command line, whose values may name files in some folders only."""

    overrides: Sequence[str] = ()
    allowed: Sequence[Path] = ()
    place: str = ""

    def check(self, config: DictConfig) -> None:
        """Refuse a config in which they name other files."""
        check_chosen(as_tree(config), self.overrides, self.allowed, self.place)


class ExperimentTask(Searchable):
    """`pipeline.run.run` as Hydra's task function, on its own or under a search."""

    unit = EPOCH
    can_pause = True

    def __init__(
        self, name: str = "", overrides: Sequence[str] = (), checked: Checked | None = None
    ) -> None:
        super().__init__(run_alone)
        self._checked = checked  # what of the command line is not the user's own
        self._command = name, list(overrides)  # kept with the study, to be run again
        self._record: StudyRecord | None = None  # of the search, once it has begun
        self._digest = ""  # of the data
        self._largest: tuple[int, Experiment] | None = None  # of what was prepared: training rows
        self.study_name = ""  # of the search, once it is open
        self._precision: Precision | None = None  # of all trials that leave it open
        self._left_open = False  # whether any does
        self._footprint = 0  # bytes that a worker needs at most
        self._rates: list[str] = []  # what to say of their learning rates
        self._trains_here = True  # any trial
        self._prices: list[Priced] = []  # of those that services train
        self._origin: dict[str, Any] = {}  # what all trials come from
        self._searched: list[str] = []  # the keys that any of them may set
        self._tracking: TrackingConfig | None = None  # where the study's record is, once prepared

    def check(self, config: DictConfig) -> None:
        """Refuse a config that breaks the schema, or an objective that nothing produces."""
        if self._checked and self._checked.overrides:
            self._checked.check(config)
        check_settings(validate(config))

    def prepare(self, configs: Sequence[DictConfig]) -> dict[str, str]:
        """Refuse data, models and settings that cannot work.

        A study is one of its data and of its store: with other rows it is another one.
        """
        experiments = [validate(config) for config in configs]
        found = aside(check_all, experiments, meanwhile=partial(self._read_ahead, experiments))
        if self._precision is None:
            self._precision, self._rates = found.precision, found.rates
            self._prices = found.prices
            here = [e for e in experiments if not e.hosted]
            self._left_open = any(e.training.precision == "auto" for e in here)
            self._trains_here = bool(here)
        self._footprint = need(found.parameters)
        self._tracking = tracking = experiments[0].tracking
        self.keep = tracking.keep_models
        self._digest = ", ".join(dict.fromkeys(found.digests))
        return {
            "data": self._digest,
            "tracking.uri": str(tracking.uri),
            "tracking.experiment": tracking.experiment,
        }

    def _read_ahead(self, experiments: Sequence[Experiment]) -> None:
        if not self.is_dry:
            open_store(experiments[0].tracking).make_tables_ahead()
        self._look_for_largest(experiments)  # which reads the rows that children are given then

    def _look_for_largest(self, experiments: Sequence[Experiment]) -> None:
        for experiment in experiments:
            rows = len(splits_of(experiment).train)
            if self._largest is None or rows > self._largest[0]:
                self._largest = rows, experiment

    def migrated(self, settings: Mapping[str, Any], keys: Collection[str] = ()) -> dict[str, Any]:
        """Return recorded values under today's names, with the keys that were added since."""
        return migrated_settings(settings, keys)

    def decided(self, config: DictConfig, key: str) -> float | None:
        """Return the number that ``optimizer.learning_rate=auto`` stands for in a config."""
        return aside(starting_rate, validate(config)).rate if key == RATE else None

    def footprint(self) -> int:
        """Return the memory that the largest model needs; no weights are read."""
        return self._footprint

    def charges(self, config: DictConfig, keys: Collection[str]) -> bool:
        """Whether any trial may be trained by a provider's service.

        Raises:
            ConfigError: where all are, for a key that no service reads.
        """
        if is_hosted(config) and "provider" not in keys:
            check_read(keys, config.provider.name)
        return is_hosted(config) or "provider" in keys

    def costs(self, configs: Sequence[DictConfig], plan: WorkerPlan) -> Sequence[RunCost]:
        """Time a few steps as a worker would make them: where it would, if it is the only one."""
        assert self._precision is not None  # set by prepare
        experiments = [with_precision(validate(config), self._precision) for config in configs]
        if any(experiment.hosted for experiment in experiments):
            return []  # how long a service takes is not known; its price was said
        if plan.workers == 1:
            return aside(run_costs, experiments)
        threads = dict.fromkeys(THREAD_VARIABLES, str(plan.cores_each))
        return in_child(run_costs, experiments, environment=threads)

    def costs_by_trial(
        self, configs: Sequence[DictConfig]
    ) -> Callable[[Mapping[str, Any]], Sequence[RunCost]] | None:
        """Return what makes the costs of what any trial noted; None where they are too unlike."""
        assert self._precision is not None  # set by prepare
        experiments = [with_precision(validate(c), self._precision) for c in configs]
        if any(experiment.hosted for experiment in experiments):
            return None
        return costs_by_trial(experiments)

    def connect(self, config: DictConfig) -> None:
        """Refuse a store out of reach; a local one is made."""
        connect_and_close_dead(open_store(validate(config).tracking))

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

    def former_studies(self, config: DictConfig, spec: StudySpec) -> Sequence[FormerStudy]:
        """Return the studies in MLflow of this kind of training, whatever their data."""
        return former_studies(open_store(validate(config).tracking), config, spec)

    def opened(self, study: optuna.Study, spec: StudySpec, /) -> list[str]:
        """Keep the precision with the study, or take that which it was begun with."""
        self.study_name = study.study_name
        own = study.user_attrs.get(PRECISION) or _precision_of(study.get_trials(deepcopy=False))
        self._precision = own or self._precision
        if PRECISION not in study.user_attrs:
            study.set_user_attr(PRECISION, self._precision)
        seeds, trials, most = len(spec.seeds) or 1, spec.budget.n_trials, spec.budget.usd
        least = min((one.low.usd for one in self._prices), default=0.0)
        if most is not None and least > most and not self._trains_here:
            raise ConfigError(
                f"hydra.sweeper.budget.usd={most:g}: a trial is forecast to cost {dollars(least)} "
                "at least; expected more."
            )
        prices = [one.line(seeds, trials) for one in self._prices]
        said = f"  training.precision=auto: {self._precision}, in all trials"
        return [*([said] if self._left_open else []), *self._rates, *prices]

    def begin(self, config: DictConfig, spec: StudySpec, spending: Spending) -> None:
        """Open the study's parent run.

        Raises:
            TrackingError: where MLflow has the study, and its storage was lost.
        """
        if lost := lost_study(self.store, spec.name, spending.study, masked(spec.storage)):
            raise TrackingError(lost)
        # A trial's sampler is made of the study's seed and the trial's place, see SeededSampler.
        self._origin = {
            "study": spec.name,
            "storage": masked(spec.storage),
            "sampler": dict(spec.sampler),
            "sampler_seed": spec.seed,
        }
        self._searched = [key for d in spec.space.dimensions for key in d.keys]
        self._record = StudyRecord.open(
            config, spec, self._digest, self._command, runs=spending.runs
        )

    def describe_data(self, config: DictConfig) -> list[str]:
        """Look over the rows and log the report with the study; return what it says in short."""
        said = self._study.describe_data(self._largest[1] if self._largest else validate(config))
        return [*said, *cannot_sign()]

    def disk(self, study: optuna.Study) -> int:
        """Return the bytes of the trials' artifacts and models, where they lie on this machine."""
        if not any(RUN_ID in t.user_attrs for t in study.get_trials(deepcopy=False)):
            return 0  # of a study that is not begun; asking its store would make an experiment
        return bytes_of(trials_of(self.store, study.study_name))

    def run(self, config: DictConfig, job: TrialJob) -> Outcome:
        """Run one trial under a record of its own, which a refused config gets as well."""
        accounts = [outcome.kept.account for outcome in job.earlier]
        try:
            result = self._recorded(config, job)
        except BaseException:
            lost = Account(ledger().take(), 0.0)  # else the next one would have it
            held = [job.before.kept.account] if job.before else []
            with suppress(Exception):  # the study may be out of reach: the error itself counts
                job.note(ACCOUNT, astuple(sum([*accounts, *held], lost)))
            raise
        job.note(ACCOUNT, astuple(sum(accounts, result.account)))
        costs = {key: result.metrics[key] for key in COSTS if key in result.metrics}
        return Outcome(result.scores, result.state, result.excesses, costs, result)

    def _recorded(self, config: DictConfig, job: TrialJob) -> Result:
        before: Result | None = job.before.kept if job.before else None
        cut_off = self._cut_off(job)
        by_rule = config.optimizer.learning_rate == AUTO
        going_on = before.run_id if before else cut_off
        if going_on:
            compute_as(self.store, config, going_on)
        decided = fix_open_choices(config, self._precision)
        command = Command([*flags(), *job.overrides], Command.of(HydraConfig.get()).choices)
        with ExitStack() as last:  # the states, which may go once the record is closed
            states = None
            if cut_off is not None:  # first: who is at that run is not to be disturbed
                states = last.enter_context(_states_of(config, cut_off))
            record = open_record(
                self.store,
                config,
                trial_name(job.number, job.settings, self._searched, job.repeat),
                {**_tags_of(job), **decided},
                command,
                {**self._origin, "trial": job.number, "repeat": job.repeat, "place": job.place},
                self._study.run_id,
                going_on,
                more={key: name for key, name in command.choices.items() if key in job.settings},
                was_cut_off=cut_off is not None,
            )
            job.note(RUN_ID, record.run_id)
            of_seeds = [*(outcome.kept.run_id for outcome in job.earlier), record.run_id]
            job.note(RUNS, of_seeds)
            shown = [*flags(), *map(masked_override, job.overrides)]
            keys = [] if is_hosted(config) else left_open(by_rule=by_rule)
            job.note(COMMAND, as_run(shown, {key: OmegaConf.select(config, key) for key in keys}))
            try:
                with described(self.store, record.run_id), record:
                    experiment = validate(config)  # where it is refused, the record says so
                    if not experiment.hosted:
                        settle_rate(experiment, job.folder)
                    states = states or last.enter_context(_states_of(config, record.run_id))
                    result = run(experiment, record, job.output_dir, states, _trial_of(job, before))
            finally:
                with suppress(Exception):  # the study may be out of reach: the run's error counts
                    job.note(RAN, sum(o.kept.ran for o in job.earlier) + record.seconds)
        return replace(result, ran=record.seconds)

    def _cut_off(self, job: TrialJob) -> str | None:
        """Return the run that an earlier try of this point left with a state on disk."""
        if job.before is not None:
            return None
        place = job.repeat or 0
        runs = (before.user_attrs.get(RUNS, [])[place:] for before in job.tries)
        for run_id in (own[0] for own in runs if own):
            folder = folder_of(self.store.dir, run_id)
            if can_resume(folder) or has_job(folder):  # a job is paid, whoever is at it
                return str(run_id)
        return None

    def free_memory(self) -> None:
        """Collect what a trial left, on the GPU too."""
        import torch

        super().free_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def dropped(
        self, outcome: Outcome, state: Literal["pruned", "killed"] = "pruned", why: str = ""
    ) -> None:
        """Close the run of a paused trial that will not be resumed."""
        if state == "killed":
            close_killed(self.store, outcome.kept.run_id, why)
            return
        close_trial(self.store, outcome.kept.run_id, state, why)
        describe(self.store, outcome.kept.run_id)

    def progressed(self, study: optuna.Study, news: Sequence[FrozenTrial]) -> None:
        """Add trials to the study's own history, name the best, keep the models of the best."""
        self._study.progressed(study, news)

    def end(
        self, study: optuna.Study, spec: StudySpec, spending: Spending, expected: Spent | None
    ) -> None:
        """Store the table of trials, costs and the page with the study, and end its run."""
        self._study.end(study, spec, spending, expected)

    def hints(self, study: optuna.Study, spending: Spending, *, confirms: bool) -> list[str]:
        """Say where the time went and what to do next."""
        return self._study.hints(study, spending, confirms=confirms)

    @property
    def _study(self) -> StudyRecord:
        assert self._record is not None  # set by begin, before any trial
        return self._record

    @property
    def store(self) -> Store:
        """The store that the search is recorded in."""
        assert self._tracking is not None  # set by prepare, before anything is asked
        return open_store(self._tracking)


def _states_of(config: DictConfig, run_id: str) -> AbstractContextManager[Checkpoints | Attachment]:
    return open_states(validate(config), run_id, of_trial=True)


def _trial_of(job: TrialJob, before: Result | None) -> Trial:
    """Return what a run may ask of its search."""
    return Trial(
        job.is_kept,
        job.report,
        job.report.check,
        reported=job.reported,
        snapshot=before.snapshot if before else None,
        resumed=partial(_take_over, job),
        timed=partial(job.note, TIMING),
        charge=job.report.charge,
        folder=job.folder,
    )


def _tags_of(job: TrialJob) -> dict[str, str]:
    """Return the tags that say which trial a run is."""
    optional = {
        tags.STAGE: str(job.stage) if job.stage else None,
        tags.REPEAT: None if job.repeat is None else str(job.repeat),
        tags.POINT: job.source[: tags.MOST_CHARACTERS] or None,
    }
    return {
        tags.KIND: "trial",
        tags.STUDY: job.study,
        tags.TRIAL: str(job.number),
        tags.SEARCHED: searched_note(job.settings),
        tags.COLOUR: trial_colour(job.number),
        tags.PROCESS: json.dumps(identity()),
        **{key: text for key, text in optional.items() if text is not None},
    }


def _precision_of(trials: Sequence[FrozenTrial]) -> Precision | None:
    """Return the precision of trials whose study does not name it: an older one, or a fork."""
    open_ones = (t.user_attrs.get(COMMAND, []) for t in trials if PRECISION not in t.params)
    for override in chain.from_iterable(open_ones):
        for name in get_args(Precision):
            if override == f"{PRECISION}={name}":
                return cast(Precision, name)
    return None


def _take_over(job: TrialJob, epoch: float) -> None:
    """Take what tries of the point reported up to the state that this one resumes from."""
    reached = round(epoch * EPOCH)
    for before in reversed(job.tries):
        values = before.intermediate_values.items()
        job.report.take_over({step: value for step, value in values if step <= reached})
