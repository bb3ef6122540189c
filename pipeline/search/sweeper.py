"""The sweeper: reads the space, checks it, opens the study, starts workers, says how it ended."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import psutil
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from pipeline.common.errors import TunewrightError, did_you_mean
from pipeline.common.tables import as_rich
from pipeline.common.terminal import console
from pipeline.config.compose import changing, plain_errors, without_hydra, without_secrets
from pipeline.config.flat import flatten
from pipeline.config.hydra_parts import reading_once
from pipeline.search.cost import Spent, compared, forecast
from pipeline.search.dry_run import left_to_run, open_copy, rehearse, to_run
from pipeline.search.options import PLAN, Options
from pipeline.search.plan import (
    check_workers,
    fingerprint,
    is_here,
    make_spec,
    method,
    plan_workers,
    study_name,
    tree,
)
from pipeline.search.power import Energy, metered
from pipeline.search.progress import (
    Progress,
    describe,
    front_table,
    points_table,
    summary_lines,
    trial_table,
)
from pipeline.search.samplers import sampler_name
from pipeline.search.searchable import Searchable
from pipeline.search.space.change import hint_of_neighbour, open_kept, open_or_continue
from pipeline.search.space.conditions import Base, enrich
from pipeline.search.space.named import space_text
from pipeline.search.space.space import Params, Space, parse_space
from pipeline.search.study.budget import machine_seconds
from pipeline.search.study.failures import why_hopeless
from pipeline.search.study.liveness import Watch
from pipeline.search.study.study import (
    StudySpec,
    is_done,
    queue_first,
    queue_grid,
    settle,
)
from pipeline.search.study.trials import REASON, best_first, ended, pareto_front, state_of
from pipeline.search.study.warm_start import JOURNAL, sources_of, warm_start
from pipeline.search.workers.supervisor import LOOK_SECONDS, Supervisor
from pipeline.search.workers.worker import Worker

log = logging.getLogger(__name__)

COSTED = 16  # points of a grid whose cost is forecast; those between are taken for alike


class SearchFailedError(TunewrightError):
    """A larger share of the trials failed than ``max_failure_rate`` allows, or all did."""

    exit_code = 1


class Sweep:
    """One call of a sweep: the same call again continues what an earlier one left."""

    def __init__(self, context: HydraContext, function: TaskFunction, config: DictConfig) -> None:
        self._context = context
        self._task = function if isinstance(function, Searchable) else Searchable(function)
        self._config = config
        self._loader = reading_once(context.config_loader)
        self._options = Options.read(config.hydra.sweeper)
        self._naming = ""  # the override that names the study, once it has a name
        self._console = console()

    def run(self, arguments: list[str]) -> optuna.Study | None:
        """Search.

        Args:
            arguments: the command line's overrides, sweeping and fixed.

        Returns:
            The study, with at least one complete trial; None of a dry run.

        Raises:
            ConfigError: for a space, sampler or key that cannot work, before the first trial.
            SearchFailedError: where too many trials failed.
        """
        self._began = time.time()
        check_workers(self._options, self._config.hydra.launcher)
        space = self._space(arguments)
        probes = self._check(space)
        base = probes[0]
        spec = make_spec(self._options, space, base, self._task)
        common = fingerprint(base, spec, self._task.prepare(probes))
        name = study_name(self._options, self._config.hydra.job.name, spec, common)
        spec = self._placed(spec, name)
        known = {**flatten(tree(base)), **self._choices}
        learn = partial(
            warm_start,
            space=space,
            sources=sources_of(self._options.warm_start),
            storage=spec.storage,
            base=known,
            recorded=partial(self._task.prior_trials, base),
        )
        dry = self._options.dry_run
        if not dry:
            self._task.connect(base)
        opened = open_or_continue(
            spec,
            common,
            known,
            self._options.on_change,
            partial(self._placed, spec),
            open_copy if dry else open_kept,
        )
        study, spec = opened.study, opened.spec
        settle(study, spec, Watch())
        said = [*opened.lines, *learn(study)]
        if opened.is_new and self._options.study_name is None:
            said += hint_of_neighbour(spec, common, known, self._config.hydra.job.name)
        if dry:
            self._task.opened(study, spec)
            self._plan_workers(study, spec, probes)
            self._rehearse(study, self._priced(spec), said, probes)
            return None
        folder = Path(self._config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        # As Hydra's own sweeper does.
        OmegaConf.save(without_secrets(self._config), folder / "multirun.yaml")
        self._task.opened(study, spec)
        if spec.is_grid:
            queue_grid(study, spec)
        queue_first(study, spec)
        self._plan_workers(study, spec, probes)
        spec = self._priced(spec)
        self._say_plan(spec, len(ended(study)))
        for line in said:
            self._say(line)
        self._task.begin(base, spec)
        expected, energy = None, Energy()
        before, earlier = machine_seconds(study), self._task.disk(study)
        try:
            for line in self._task.describe_data(base):
                self._say(line)
            expected = self._forecast(study, spec, probes, left_to_run(study, spec))
            with (
                metered(energy),
                Supervisor(spec, self._task) as supervisor,
                Progress(spec, self._console),
            ):
                self._work(study, spec, supervisor)
        finally:
            try:
                if expected is not None:
                    seconds = machine_seconds(study) - before
                    found = self._spent(spec, seconds, self._task.disk(study) - earlier, energy)
                    self._task.spent(expected, found)
            finally:
                self._task.end(study, spec)
        self._say_end(study, spec)
        if expected is not None:
            self._say(compared(expected, found))
        return study

    def _priced(self, spec: StudySpec) -> StudySpec:
        """Give a spec what one of its workers draws and costs."""
        rates = self._options.prices.rates(self._plan.cores_each, self._plan.gpus_each)
        return replace(spec, budget=replace(spec.budget, rates=rates))

    def _forecast(
        self, study: optuna.Study, spec: StudySpec, probes: list[DictConfig], left: int
    ) -> Spent | None:
        """Say what so many trials are expected to cost; None where that cannot be told."""
        is_asked, is_over = self._options.forecast, not left or self._why_over(study, spec)
        if is_over or not is_asked or not is_here(self._config.hydra.launcher):
            return None
        configs = probes
        if spec.is_grid:
            points = to_run(study, spec)
            some = points[:: -(-len(points) // COSTED)]
            configs = [self._composed(spec.space, params) for params in some]
        try:
            costs = self._task.costs(configs, self._plan)
        except Exception as error:  # the trials will say what is wrong, each in its record
            log.warning("no forecast", exc_info=True)
            self._say(f"no forecast: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return None
        if not costs:
            return None
        # Of a grid its points in their order, else as often as needed what stands for all of them.
        every = [costs[i * len(costs) // left] for i in range(left)]
        begun = time.time() - self._began
        expected = forecast(
            every, len(spec.seeds) or 1, self._plan.workers, spec.budget.rates, begun
        )
        pruned = ", at most, as the pruner ends some early" if spec.prunes else ""
        self._say(f"forecast: {expected}{pruned}")
        return expected

    def _spent(self, spec: StudySpec, seconds: float, disk: int, energy: Energy) -> Spent:
        """Return what this start of the search has cost."""
        rates, measured = spec.budget.rates, energy.kwh
        kwh = rates.kwh(seconds) if measured is None else measured
        wall = time.time() - self._began
        usd = rates.usd(seconds, kwh)
        return Spent(wall, seconds, disk, kwh, usd, is_measured=measured is not None)

    def _load(self, overrides: list[str]) -> DictConfig:
        """Compose a job's config as Hydra's launchers do."""
        named = [self._naming] if self._naming else []
        return self._loader.load_sweep_config(self._config, [*named, *overrides])

    def _placed(self, spec: StudySpec, name: str) -> StudySpec:
        """Give a spec a study's name, and its storage where none is given: the study's folder."""
        with changing(self._config.hydra):
            self._config.hydra.sweeper.study_name = name
        journal = Path(self._config.hydra.sweep.dir, JOURNAL).absolute()
        placed = replace(spec, name=name, storage=self._options.storage or str(journal))
        self._naming = placed.naming
        return placed

    def _work(self, study: optuna.Study, spec: StudySpec, supervisor: Supervisor) -> None:
        """Launch workers until the search is over; again where all of them died before that."""
        while not is_done(study, spec) and self._why_over(study, spec) is None:
            before = len(ended(study))
            error = self._launch(spec)
            supervisor.look()
            while study.get_trials(
                deepcopy=False, states=(TrialState.RUNNING,)
            ):  # a worker on another machine; it is done, or seen to be dead
                time.sleep(LOOK_SECONDS)
            if len(ended(study)) == before:
                if error is not None:
                    raise error
                return
            if error is not None and not is_done(study, spec):
                log.warning("a worker ended early; started again", exc_info=error)

    def _why_over(self, study: optuna.Study, spec: StudySpec) -> str | None:
        return why_hopeless(study, spec.max_failure_rate) or spec.budget.exhausted(study)

    def _space(self, arguments: list[str]) -> Space:
        params = self._options.params or {}
        configured = [f"{key}={space_text(value)}" for key, value in params.items()]
        space = parse_space([*configured, *arguments], self._context.config_loader)
        base = Base(self._load, space)
        self._choices = base.choices
        return enrich(space, self._options, base)

    def _check(self, space: Space) -> list[DictConfig]:
        """Compose and check the config with every value that must work, the base first."""
        with plain_errors():
            fixed = tree(without_hydra(self._load(list(space.fixed)), resolve=False))
        self._nearest = partial(did_you_mean, valid=[*flatten(fixed), *fixed])
        return [self._composed(space, params) for params in space.probes()]

    def _composed(self, space: Space, params: Params) -> DictConfig:
        """Compose and check the config of a point."""
        with plain_errors(self._nearest):
            config = without_hydra(self._load(space.overrides(params)))
        self._task.check(config)
        return config

    def _rehearse(
        self, study: optuna.Study, spec: StudySpec, said: list[str], probes: list[DictConfig]
    ) -> None:
        """Say what the search would do, having composed and checked what it would run."""

        def check(params: Params) -> None:
            self._task.prepare([self._composed(spec.space, params)])

        done, left, why = len(ended(study)), left_to_run(study, spec), self._why_over(study, spec)
        points = [] if why else rehearse(study, spec, check)
        self._say_plan(spec, done)
        for line in said:
            self._say(line)
        if points:
            self._console.print(as_rich(points_table(spec, points)))
            which = "all" if spec.is_grid or len(points) >= left else "the first"
            jobs = "jobs to go" if done else "jobs"
            what = f"{which} {len(points)} {jobs} can be composed and are valid"
        else:
            what = f"no job is to go{f': {why}' if why else ''}"
        if self._options.dry_run != PLAN:
            self._say(f"dry run: {what}; nothing was run or written.")
            return
        self._forecast(study, spec, probes, left)
        self._say(f"plan: {what}; nothing was run, and nothing written but what was measured.")

    def _launch(self, spec: StudySpec) -> Exception | None:
        """Launch the workers and wait for them; return what one raised that is no trial's error."""
        extend = None
        if self._options.custom_search_space:
            extend = method(self._options.custom_search_space)
        isolated = self._options.isolation == "trial"
        worker = Worker(spec, self._context, self._config, self._task, isolated, extend)
        _leave_memory_to_ray(self._config)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self._context, task_function=worker, config=self._config
        )
        jobs = [
            # A worker has no config to write down: its trials have.
            [spec.naming, f"hydra.sweep.subdir=workers/{number}", "hydra.output_subdir=null"]
            for number in range(self._plan.workers)
        ]
        try:
            for job in launcher.launch(jobs, initial_job_idx=0):
                _ = job.return_value  # raises what a worker raised
        except Exception as error:
            return error
        return None

    def _plan_workers(self, study: optuna.Study, spec: StudySpec, probes: list[DictConfig]) -> None:
        """Choose how many workers there are, now that what is left to run is known."""
        launcher, left = self._config.hydra.launcher, left_to_run(study, spec)
        footprint = partial(self._task.footprint, probes)
        self._plan = plan_workers(self._options, launcher, spec, left, footprint)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _say_plan(self, spec: StudySpec, done: int) -> None:
        n_trials = spec.budget.n_trials
        points = f"a grid of {spec.space.size} points, " if spec.is_grid else ""
        name = sampler_name(spec.sampler, spec.space)
        seeds = f", each on {len(spec.seeds)} seeds" if spec.seeds else ""
        again = f"; {done} done before, {max(n_trials - done, 0)} to go" if done else ""
        self._say(
            f"study {spec.name}: {points}{n_trials} trials by {name}{seeds}{self._plan}{again}"
        )
        for key, values in spec.space.describe().items():
            self._say(f"  {key}: {values}")

    def _say_end(self, study: optuna.Study, spec: StudySpec) -> None:
        ranked = best_first(study)
        _write_results(study, spec, Path(self._config.hydra.sweep.dir))
        others = sorted(ended(study, "pruned", "failed"), key=lambda t: (state_of(t), t.number))
        self._console.print(as_rich(trial_table(spec, [*ranked, *others])))
        if len(spec.directions) > 1 and ranked:
            self._console.print(as_rich(front_table(spec, study)))
        for line in summary_lines(study, spec):
            self._say(line)
        why = self._why_over(study, spec)
        if not ranked or why_hopeless(study, spec.max_failure_rate):
            failed = [str(t.user_attrs.get(REASON)) for t in ended(study, "failed")]
            reasons = f" The first that failed: {failed[0]}" if failed else ""
            raise SearchFailedError(
                f"study {spec.name}: {why or f'no trial is complete.{reasons}'}"
            )
        if why and not is_done(study, spec):
            self._say(f"stopped: {why}. Run the same command to resume.")
        self._say(f"best: trial {ranked[0].number}, {describe(ranked[0], spec)}")
        began = psutil.Process().create_time()
        for line in self._task.hints(study, began, self._plan.workers):
            self._say(line)


def _leave_memory_to_ray(config: DictConfig) -> None:
    # hydra-ray-launcher sets the memory of every Ray; a cluster that runs refuses to be told.
    init = OmegaConf.select(config, "hydra.launcher.ray.init")
    if init is not None and (init.get("address") or os.environ.get("RAY_ADDRESS")):
        with changing(init):
            init.setdefault("object_store_memory", None)


def _write_results(study: optuna.Study, spec: StudySpec, folder: Path) -> None:
    """Write ``optimization_results.yaml`` as the official plugin does."""
    ranked = best_first(study)
    if not ranked:
        return
    results: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) == 1:
        params = spec.space.settings(ranked[0].params)
        results |= {"best_params": params, "best_value": ranked[0].value}
    else:
        front = [
            {"params": spec.space.settings(t.params), "values": t.values}
            for t in pareto_front(study)
        ]
        results |= {"solutions": front}
    OmegaConf.save(OmegaConf.create(results), folder / "optimization_results.yaml")
