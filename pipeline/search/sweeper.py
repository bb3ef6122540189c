"""The sweeper: reads the space, checks it, opens the study, starts workers, says how it ended."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from pipeline.common.errors import ConfigError, DiskError, TunewrightError
from pipeline.common.private import make_file, make_folder
from pipeline.common.tables import as_rich
from pipeline.common.terminal import console
from pipeline.common.timing import booked, ledger
from pipeline.config.compose import without_secrets
from pipeline.search.composer import Composer
from pipeline.search.cost import Spent, compared
from pipeline.search.dry_run import left_to_run, rehearse, to_run
from pipeline.search.forecasts import Forecast
from pipeline.search.opening import Opening, Search
from pipeline.search.options import PLAN, Options
from pipeline.search.plan import (
    check_workers,
    is_here,
    method,
    plan_workers,
)
from pipeline.search.progress import (
    Progress,
    best_line,
    front_table,
    plan_lines,
    points_table,
    summary_lines,
    trial_table,
    write_results,
)
from pipeline.search.searchable import Searchable
from pipeline.search.space.dimension import Params
from pipeline.search.spending import Spending
from pipeline.search.study.failures import why_hopeless
from pipeline.search.study.queue import queue_points
from pipeline.search.study.steering import why_stopped
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import REASON, best_first, ended, state_of
from pipeline.search.workers.fork_server import fork_server
from pipeline.search.workers.supervisor import LOOK_SECONDS, Supervisor
from pipeline.search.workers.worker import Worker, launch

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
        self._options = Options.read(config.hydra.sweeper)
        self._task.is_dry = bool(self._options.dry_run)
        self._composer = Composer(context.config_loader, config, self._task)
        self._console = console()

    def run(self, arguments: list[str]) -> optuna.Study | None:
        """Search, by the command line's overrides, sweeping and fixed.

        Returns:
            The study, with at least one complete trial unless a user stopped it; None of a dry
            run.

        Raises:
            ConfigError: for a space, sampler or key that cannot work, before the first trial.
            SearchFailedError: where too many trials failed.
        """
        self._began = ledger().began
        ledger().open("check")
        check_workers(self._options, self._config.hydra.launcher)
        search = Opening(self._config, self._options, self._composer, self._task).open(arguments)
        study, is_dry = search.study, self._options.dry_run
        if not is_dry:
            self._save_config()
        search = replace(search, lines=[*self._task.opened(study, search.spec), *search.lines])
        if not is_dry:
            queue_points(*search.stages.current())
        search = self._planned(search)
        if is_dry:
            self._rehearse(search)
            return None
        self._search(search)
        return study

    def _save_config(self) -> None:
        """Write the sweep's config into its folder, as Hydra's own sweeper does."""
        folder = Path(self._config.hydra.sweep.dir)
        make_folder(folder)
        OmegaConf.save(without_secrets(self._config), make_file(folder / "multirun.yaml"))

    def _search(self, search: Search) -> None:
        """Run the search, and say what it found and what it cost."""
        study, spec, base, stages = search.study, search.spec, search.base, search.stages
        ledger().open("search")
        self._say_plan(search)
        is_over = stages.is_done() or stages.why_over() is not None
        spending = self._spending(search, runs=not is_over)
        self._task.begin(base, spec, spending)
        expected = None

        def describe() -> None:
            self._say(*self._task.describe_data(base))

        try:
            expected = self._forecast(search, spending.before)
            if expected is not None:
                expected.begin()
            with (
                spending.metered(),
                Supervisor(spec, self._task, spending, expected, describe) as supervisor,
                Progress(spec, self._console),
            ):
                if self._plan.workers == 1 and not fork_server().is_wanted:
                    supervisor.look()  # later it would delay this process, the only worker
                with booked("idle"):  # this process; its workers are not
                    self._work(search, supervisor)
        finally:
            found = expected.spent if expected else None
            self._task.end(study, spec, spending, found)
            spending.keep(is_over=True)
            ledger().restart(time.time())  # a further search of this process is another one
        self._say_end(search, spending)
        if found is not None:
            self._say(compared(found, spending.total))

    def _spending(self, search: Search, *, runs: bool) -> Spending:
        rates, workers = search.spec.budget.rates, self._plan.workers
        return Spending(search.study, self._task, rates, self._began, workers, runs=runs)

    def _forecast(self, search: Search, before: Spent) -> Forecast | None:
        """Prepare to say what the study is expected to cost, trials to come included."""
        ahead = list(search.stages.ahead())
        left = [left_to_run(*stage) for stage in ahead]
        is_over = not sum(left) or search.stages.why_over()
        if is_over or not self._options.forecast or not is_here(self._config.hydra.launcher):
            return None
        configs = [self._costed(search, *stage) for stage in ahead]
        stages = list(zip(configs, left, strict=True))
        models = max(0, min(sum(left), self._task.keep - len(ended(search.study, "complete"))))
        how = (self._plan, self._began, before, models)
        return Forecast(self._task, stages, search.spec, *how, self._say)

    def _costed(self, search: Search, study: optuna.Study, spec: StudySpec) -> list[DictConfig]:
        """Return configs that stand for what a search, or a stage of it, is to run."""
        if not spec.is_grid:
            return search.probes[max(spec.stage - 1, 0)]
        points = to_run(study, spec)
        some = points[:: -(-len(points) // COSTED) or 1]
        return [self._composer.composed(spec.space, params) for params in some]

    def _work(self, search: Search, supervisor: Supervisor) -> None:
        """Launch workers until the search is over; again where all of them died before that."""
        study, spec = search.study, search.spec
        while not search.stages.is_done() and search.stages.why_over() is None:
            before = len(ended(study))
            error = self._launch(spec)
            supervisor.look()
            while study.get_trials(
                deepcopy=False, states=(TrialState.RUNNING,)
            ):  # a worker on another machine; it is done, or seen to be dead
                time.sleep(LOOK_SECONDS)
            # One that the user has to mend would come again.
            if len(ended(study)) == before or isinstance(error, ConfigError | DiskError):
                if error is not None:
                    raise error
                return
            if error is not None and not search.stages.is_done():
                log.warning("a worker ended early; started again", exc_info=error)

    def _rehearse(self, search: Search) -> None:
        """Say what the search would do, having composed and checked what it would run."""
        for stage in search.stages.ahead():
            queue_points(*stage)
        left = left_to_run(search.study, search.spec)  # rehearsing asks for some of them
        before = self._spending(search, runs=False).before
        expected = self._forecast(search, before) if self._options.dry_run == PLAN else None
        ahead, why = list(search.stages.ahead()), search.stages.why_over()
        points = [[] if why else self._rehearsed(search, *stage) for stage in ahead]
        self._say_plan(search)
        for stage, own in zip(ahead, points, strict=True):
            if own:
                self._console.print(as_rich(points_table(stage[1], own)))
        count = sum(map(len, points))
        if count:
            which = "all" if count >= left else "the first"
            jobs = "jobs to go" if ended(search.study) else "jobs"
            what = f"{which} {count} {jobs} can be composed and are valid"
        else:
            what = f"no job is to go{f': {why}' if why else ''}"
        if self._options.dry_run != PLAN:
            self._say(f"dry run: {what}; nothing was run or written.")
            return
        if expected is not None:
            expected.time()
        self._say(f"plan: {what}; nothing was run, and nothing written but what was measured.")

    def _rehearsed(self, search: Search, study: optuna.Study, spec: StudySpec) -> list[Params]:
        """Return the points that a search, or a stage of it, would run, each of them checked."""

        def check(points: Sequence[Params]) -> None:
            self._task.prepare([self._composer.composed(spec.space, point) for point in points])

        points = rehearse(study, spec, check)
        if spec is search.stages.current()[1]:
            return points
        narrow = search.spec.stages[spec.stage - 1].narrow  # around what is not known yet
        return [{k: v for k, v in point.items() if k not in narrow} for point in points]

    def _launch(self, spec: StudySpec) -> Exception | None:
        """Launch the workers and wait for them; return what one raised that is no trial's error."""
        extend = None
        if self._options.custom_search_space:
            extend = method(self._options.custom_search_space)
        isolated = self._options.isolation == "trial"
        worker = Worker(spec, self._context, self._config, self._task, isolated, extend)
        return launch(worker, self._plan.workers)

    def _planned(self, search: Search) -> Search:
        """Choose how many workers there are, now that what is left is known, and price them."""
        launcher = self._config.hydra.launcher
        left = max(left_to_run(*stage) for stage in search.stages.ahead())
        footprint = self._task.footprint
        self._plan = plan_workers(self._options, launcher, search.spec, left, footprint)
        rates = self._options.prices.rates(self._plan.cores_each, self._plan.gpus_each)
        budget = replace(search.spec.budget, rates=rates)
        return replace(search, spec=replace(search.spec, budget=budget))

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _say_plan(self, search: Search) -> None:
        self._say(*plan_lines(search.spec, self._plan, search.study), *search.lines)
        if seeds := self._options.confirm:
            what = f"its winner and the default config are trained on {seeds} fresh seeds"
            self._say(f"afterwards {what} and tested; a forecast leaves that out")

    def _say_end(self, search: Search, spending: Spending) -> None:
        study, spec = search.study, search.spec
        ranked = best_first(study)
        write_results(study, spec, Path(self._config.hydra.sweep.dir))
        others = sorted(ended(study, "pruned", "failed"), key=lambda t: (state_of(t), t.number))
        self._console.print(as_rich(trial_table(spec, [*ranked, *others])))
        if len(spec.directions) > 1 and ranked:
            self._console.print(as_rich(front_table(spec, study)))
        self._say(*summary_lines(study, spec))
        why, by_user = search.stages.why_over(), why_stopped(study)
        stage, _ = search.stages.current()
        is_stuck = search.stages.why_stuck() is not None or why_hopeless(
            stage, spec.max_failure_rate
        )
        if is_stuck or not (ranked or by_user):
            failed = [str(t.user_attrs.get(REASON)) for t in ended(study, "failed")]
            reasons = f" The first that failed: {failed[0]}" if failed else ""
            raise SearchFailedError(
                f"study {spec.name}: {why or f'no trial is complete.{reasons}'}"
            )
        if why and not search.stages.is_done():
            self._say(f"{by_user or f'stopped: {why}'}. Run the same command to resume.")
        if ranked:
            hints = self._task.hints(study, spending, confirms=self._options.confirm > 0)
            self._say(best_line(spec, ranked), *hints)
