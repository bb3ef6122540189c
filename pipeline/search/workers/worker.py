"""A worker asks the study for a trial, runs it in this warm process, tells the study, and again."""

import gc
import logging
import os
import time
from collections.abc import Callable, Collection
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from pipeline.common.errors import (
    RESUMES,
    SearchStopped,
    TrialStoppedError,
    is_disk_fault,
    machine_faults_named,
)
from pipeline.common.timing import booked, ledger
from pipeline.config.compose import changing, literal
from pipeline.search.optuna_parts import latest
from pipeline.search.pruners import PauseAndPromote, promotable
from pipeline.search.searchable import Outcome, Searchable
from pipeline.search.study.failures import tell_failure
from pipeline.search.study.liveness import Heartbeat, Watch
from pipeline.search.study.queue import claim, is_busy, queue_points, settle, settle_one
from pipeline.search.study.stages import Stages
from pipeline.search.study.steering import BY_USER, Orders, why_stopped
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import (
    COSTED,
    PAUSED_AT,
    PAUSED_SINCE,
    SCORES,
    STEP,
    STOP,
    WAITED,
)
from pipeline.search.workers.child import Child, WorkerDiedError
from pipeline.search.workers.reporter import Reporter
from pipeline.search.workers.trial_runner import TrialRunner

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5  # before an idle worker looks again


@dataclass(frozen=True)
class Worker:
    """The task function that a launcher runs: one worker, many trials. Picklable."""

    spec: StudySpec
    context: HydraContext
    config: DictConfig  # the sweep's own, with the hydra node
    task: Searchable
    isolated: bool = False  # every trial in a fresh process
    extend: Any = None  # custom_search_space: f(config, trial) that suggests further parameters
    folder: Path = field(default_factory=Path.cwd)  # the search's, which relative paths start from

    def __call__(self, _: DictConfig) -> None:
        """Run trials until no more may begin and none is running that may need another try."""
        if self.folder.is_dir():  # Ray starts workers in another; on another machine it may not be
            os.chdir(self.folder)
        if not self.isolated:
            TrialLoop(self).work()
            return
        alone, deaths = replace(self, isolated=False), 0
        while deaths <= self.spec.retries + 1:  # more than one point can cost
            child = Child(_work_once, (alone,), {})
            try:
                answered = child.join()
            finally:
                child.end()
            if answered and not child.result:
                return
            deaths = 0 if answered else deaths + 1
        raise WorkerDiedError(
            f"hydra.sweeper.isolation=trial: {deaths} processes in a row died. The last one "
            f"{child.fate}."
        )


def _work_once(worker: Worker) -> bool:
    return TrialLoop(worker).work(most=1)


class TrialLoop:
    """One process's part in a search: it asks for trials, runs them and tells the study."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._task = worker.task
        self._whole = worker.spec.open()
        self._runner = TrialRunner(worker, self._whole)
        self._stages = Stages(self._whole, worker.spec)
        self._study, self._spec = self._whole, worker.spec  # of the stage
        self._pruner = worker.spec.make_pruner()
        self._heartbeat = Heartbeat(self._whole)
        self._watch = Watch()
        self._orders = Orders(self._whole, self._drop)
        self._held: dict[int, tuple[Trial, Outcome]] = {}  # paused trials and what they resume from
        self._enter_stage()

    def _enter_stage(self) -> bool:
        """Take part in the stage that the search is in; return whether it is another one."""
        before = self._spec
        self._study, self._spec = self._stages.current()
        if self._spec is before:
            return False
        if self._spec.stage:  # the controller queues what begins a search, and no later stage
            queue_points(self._study, self._spec)
        return True

    def work(self, most: int | None = None) -> bool:
        """Run trials, at most ``most`` of them; return whether any was run."""
        ledger().open("search")
        with machine_faults_named(RESUMES), self._heartbeat:
            with self._orders:
                done = self._run_all(most)
            self._drop_held()
        return done > 0

    def _run_all(self, most: int | None) -> int:
        """Run trials until there are no more for this worker; return how many it ran."""
        done = 0
        while not self._spec.why_over(self._study):
            busy = is_busy(self._study)  # first: what ends while we look may have made work
            if self._run_next():
                done += 1
                if done == 1:
                    # What the first trial imported stays for good. Taken out of the collector's
                    # sight, it no longer costs each later collection (accelerate makes one a
                    # trial) 0.4 s.
                    gc.collect()
                    gc.freeze()
                if done == most:
                    break
            elif busy:
                with booked("idle"):
                    time.sleep(WAIT_SECONDS)
                settle(self._study, self._spec, self._watch)
            elif not self._go_on():
                break
        return done

    def _go_on(self) -> bool:
        """Whether another stage follows, or may: there is no trial left for this worker in this."""
        if self._spec.stage == len(self._worker.spec.stages):
            return False
        self._drop_held()
        if self._enter_stage():
            return True
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running:  # other workers' paused ones, which they are about to end
            with booked("idle"):
                time.sleep(WAIT_SECONDS)
            settle(self._study, self._spec, self._watch)
        return bool(running)

    def _drop_held(self) -> None:
        """End the trials that wait here to be resumed."""
        stopped = why_stopped(self._whole)
        for number in list(self._held):
            held = self._held.pop(number, None)
            if held is None:  # a user has just ended it
                continue
            trial, outcome = held
            by_user = latest(self._study, trial).user_attrs.get(STOP, "")
            if stopped and not by_user:
                # Before `_leave`: the run of a killed trial is closed as that of a dead process.
                self._task.dropped(outcome, "killed", stopped)
                self._leave(trial, stopped)
            else:
                self._end_paused(trial, outcome)
                self._task.dropped(outcome, why=by_user)

    def _run_next(self) -> bool:
        is_eager = isinstance(self._pruner, PauseAndPromote) and self._pruner.eager
        if is_eager and self._promote():
            return True
        trial = claim(self._study, self._spec, self._heartbeat)
        if trial is None:
            return self._promote()
        self._run(trial, None)
        return True

    def _promote(self) -> bool:
        """Resume a trial that waits here, if one may; see `promotable`."""
        if not isinstance(self._pruner, PauseAndPromote):
            return False
        number = promotable(self._study, self._pruner, self._held, self._spec.reported)
        if number is None:
            return False
        held = self._held.pop(number, None)
        if held is None:  # a user has just ended it
            return False
        trial, outcome = held
        known = trial.user_attrs
        waited = time.time() - known[PAUSED_SINCE]
        trial.set_user_attr(WAITED, known.get(WAITED, 0.0) + waited)
        trial.set_user_attr(PAUSED_SINCE, None)
        trial.set_user_attr(PAUSED_AT, None)
        self._run(trial, outcome)
        return True

    def _run(self, trial: Trial, before: Outcome | None) -> None:
        reporter = Reporter(self._study, self._spec, self._pruner, trial, self._orders)
        try:
            outcome = self._launch(trial, reporter, before)
        except TrialStoppedError:
            outcome = Outcome([], state="pruned")
        except SearchStopped as stop:
            self._leave(trial, str(stop))
            return
        # Ctrl-C and a full disk leave the trial to the next start.
        except (Exception, SystemExit) as error:
            if is_disk_fault(error):
                raise
            self._tell(trial, partial(tell_failure, self._study, trial, error))
            return
        finally:
            self._task.free_memory()
        if outcome.state == "paused":
            self._hold(trial, outcome, reporter.step)
        else:
            self._tell(trial, partial(self._finish, trial, outcome, reporter.step))

    def _drop(self, numbers: Collection[int]) -> None:
        """End those of the paused trials that users end; called while another one runs."""
        for number in numbers:
            if held := self._held.pop(number, None):
                try:
                    self._end_paused(*held)
                except Exception:  # a hiccup of the storage: the next look tries again
                    self._held[number] = held
                    raise
                self._task.dropped(held[1], why=BY_USER)

    def _end_paused(self, trial: Trial, outcome: Outcome) -> None:
        step = trial.user_attrs[PAUSED_AT]
        self._tell(trial, partial(self._finish, trial, outcome, step))

    def _leave(self, trial: Trial, why: str) -> None:
        """Leave a trial of a search that a user stopped: its next start begins it again."""
        settle_one(self._study, latest(self._study, trial), why=why)
        self._heartbeat.release(trial)

    def _hold(self, trial: Trial, outcome: Outcome, step: int) -> None:
        try:
            trial.set_user_attr(PAUSED_AT, step)
            trial.set_user_attr(PAUSED_SINCE, time.time())
            self._held[trial.number] = trial, outcome
        except UpdateFinishedTrialError:  # others took this process for dead
            self._heartbeat.release(trial)
            self._task.dropped(outcome)

    def _finish(self, trial: Trial, outcome: Outcome, step: int) -> None:
        if outcome.state == "complete":
            for name, excess in outcome.constraints.items():
                trial.set_constraint(name, excess)
            if outcome.costs:
                trial.set_user_attr(COSTED, dict(outcome.costs))
            self._study.tell(trial, list(outcome.values))
        else:
            trial.set_user_attr(STEP, max(step, 0))
            if outcome.values:
                trial.set_user_attr(SCORES, list(outcome.values))
            self._study.tell(trial, state=TrialState.PRUNED)

    def _tell(self, trial: Trial, tell: Callable[[], Any]) -> None:
        try:
            tell()
        except (ValueError, UpdateFinishedTrialError):
            # Others took this process for dead, and gave its point to another.
            log.warning("trial %d was settled by another process", trial.number, exc_info=True)
        self._heartbeat.release(trial)

    def _launch(self, trial: Trial, reporter: Reporter, before: Outcome | None) -> Outcome:
        return self._runner.run(self._spec, trial, reporter, before)


def launch(worker: Worker, count: int) -> Exception | None:
    """Launch workers and wait for them; return what one raised that is no trial's error."""
    # hydra-ray-launcher sets the memory of every Ray; a cluster that runs refuses to be told.
    ray = OmegaConf.select(worker.config, "hydra.launcher.ray.init")
    if ray is not None and (ray.get("address") or os.environ.get("RAY_ADDRESS")):
        with changing(ray):
            ray.setdefault("object_store_memory", None)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=worker.context, task_function=worker, config=worker.config
    )
    # Hydra leaves out the command's own overrides, which may move the folder. A worker has no
    # config to write down: its trials have.
    where = f"hydra.sweep.dir={literal(worker.config.hydra.sweep.dir)}"
    own = [worker.spec.naming, where, "hydra.output_subdir=null"]
    jobs = [[*own, f"hydra.sweep.subdir=workers/{number}"] for number in range(count)]
    try:
        for job in launcher.launch(jobs, initial_job_idx=0):
            with redirect_stderr(StringIO()):  # Hydra says that it raises
                _ = job.return_value  # raises what a worker raised
    except Exception as error:
        return error
    return None
