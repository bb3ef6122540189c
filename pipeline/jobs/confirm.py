"""A search's winner on fresh seeds: retrained next to the default config, tested, and judged.

A search selects on the validation split, so its best score is partly luck. What is found here is
not: nothing was chosen by these seeds, nor by the test split, which each run reads once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from optuna import Study
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from pipeline.analysis import winner as winners
from pipeline.analysis.report import report as write_report
from pipeline.common.errors import ConfigError, TrackingError
from pipeline.config.compose import as_run, key_of, literal, without_hydra
from pipeline.config.experiment import validate
from pipeline.config.flags import split_flags
from pipeline.config.flat import OPEN
from pipeline.config.migrations import migrated_overrides
from pipeline.config.untrusted_command import check_command
from pipeline.jobs.trial import Checked, ExperimentTask
from pipeline.search.options import MOST_REPEATS
from pipeline.search.searchable import SEED
from pipeline.search.space.grammar import parse_space
from pipeline.search.spending import Spending
from pipeline.search.study.storage import find_study
from pipeline.search.study.trials import COMMAND, RUN_ID, best_first
from pipeline.tasks.objective import objectives
from pipeline.tracking import Store, commands, studies, tags
from pipeline.tracking.metrics import metrics_of
from pipeline.tracking.runs import count_runs, log_progress, log_texts, seek_run
from pipeline.tracking.trials import trials_of
from pipeline.training.prepare import splits_of

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

FILE = "winner.json"  # artifact of the study
# How a study's runs are launched, which its confirmation shares.
_LAUNCHED = ("hydra/launcher", "hydra.launcher", "hydra.sweeper.n_jobs", "hydra.sweeper.retries")


class Retraining(ExperimentTask):
    """A config on several seeds; what there is to say comes with the verdict."""

    def describe_data(self, config: DictConfig) -> list[str]:
        """Say nothing: the search before it looked over the same rows."""
        del config
        return []

    def hints(self, study: Study, spending: Spending, *, confirms: bool) -> list[str]:
        """Say nothing."""
        del study, spending, confirms
        return []


@dataclass(frozen=True)
class Search:
    """A grid over seeds of one config, as a study of its own."""

    name: str
    overrides: list[str]
    checked: Checked


@dataclass(frozen=True)
class Confirmation:
    """What is retrained, and for which study."""

    store: Store
    parent: Run
    storage: str
    trial: FrozenTrial
    seeds: range
    winner: Search
    default: Search
    flags: list[str]  # where their configs are read


def plan(
    store: Store,
    name: str,
    storage: str | None,
    seeds: int,
    given: Sequence[str] = (),
    allowed: Sequence[Path] = (),
    typed: Sequence[str] = (),
) -> Confirmation:
    """Say what is to be retrained on so many fresh seeds.

    The name may be the beginning of the study's; its storage is by default the one that its parent
    run names. What is given replaces overrides of the study's command line; what is ``typed`` of
    it, the user gave to the search that has just ended. What nobody vouches for may name files in
    the ``allowed`` folders, and do nothing but choose values.

    Raises:
        TrackingError: where there is no such study, or its storage or command is not known.
        ConfigError: where no trial is complete, for a number of seeds that cannot be, and where a
            command line is refused.
    """
    if not 2 <= seeds <= MOST_REPEATS:
        raise ConfigError(
            f"--seeds {seeds}: expected 2 to {MOST_REPEATS}; one seed does not show how far they "
            "differ."
        )
    parent = studies.find_study(store, name)
    full, where = parent.data.tags[tags.STUDY], commands.storage_of(store, parent, storage)
    ranked = best_first(find_study(full, where))
    if not ranked:
        raise ConfigError(f"study {full}: no trial is complete, so there is no winner to confirm.")
    best = ranked[0]
    command = best.user_attrs.get(COMMAND)
    if command is None:
        raise TrackingError(f"study {full}: the command line of trial {best.number} was not kept.")
    asked = commands.command_of(parent, typed, given)
    params = [run.data.params for run in trials_of(store, full)]
    first = 1 + max((int(own[SEED]) for own in params if SEED in own), default=0)
    parts = _Parts(store, asked, allowed, range(first, first + seeds))
    run = seek_run(store, best.user_attrs[RUN_ID])
    logged = run.data.params if run else {}
    decided = {key: logged[key] for key in OPEN if key in logged}  # this machine's own
    fixed = as_run(parse_space(asked.overrides).fixed, decided)
    replaced = set(map(key_of, given))
    _, chosen = split_flags(migrated_overrides(command))
    won = [o for o in chosen if key_of(o) not in replaced]
    return Confirmation(
        store,
        parent,
        where,
        best,
        parts.seeds,
        parts.search(f"confirm-{full}-trial-{best.number}", won),
        parts.search(f"confirm-{full}-default", fixed),
        asked.flags,
    )


@dataclass(frozen=True)
class _Parts:
    """What the searches of a confirmation share."""

    store: Store
    asked: commands.Command
    allowed: Sequence[Path]
    seeds: range

    @cached_property
    def _own(self) -> set[str]:
        """What somebody vouches for, and the choices that it has a trial take."""
        vouched = [o for o in self.asked.overrides if o not in self.asked.foreign]
        space = parse_space(vouched).dimensions
        choices = [d for d in space if isinstance(d.distribution, CategoricalDistribution)]
        return {*vouched, *(o for d in choices for value in d.grid() for o in d.overrides(value))}

    def search(self, study: str, command: Sequence[str]) -> Search:
        """Return the grid over the seeds of a config, by the command line that composes it."""
        overrides = [o for o in command if not key_of(o).startswith("hydra")]
        overrides = [o for o in overrides if key_of(o) not in (SEED, "evaluation.test")]
        foreign = [override for override in overrides if override not in self._own]
        check_command(foreign, self.asked.place)
        options = {
            "hydra.sweeper.study_name": literal(study),
            "hydra.sweeper.on_change": "continue",
            "hydra/sweeper/sampler": "grid",
            "hydra.sweeper.forecast": "false",
            "evaluation.test": "true",
            SEED: ",".join(map(str, self.seeds)),
        }
        launched = [o for o in self.asked.overrides if key_of(o).startswith(_LAUNCHED)]
        given = [*launched, *(f"{k}={v}" for k, v in options.items())]
        checked = Checked(foreign, self.allowed, self.asked.place)
        return Search(study, [*self.store.instead(overrides), *given], checked)


def conclude(confirmation: Confirmation, config: DictConfig) -> winners.WinnerReport:
    """Judge what the retrained runs found, and log it with the study.

    The config is the default one, composed, and reads its test split.

    Raises:
        TrackingError: where fewer than two seeds of a side are complete.
    """
    store, full = confirmation.store, confirmation.parent.data.tags[tags.STUDY]
    experiment = validate(without_hydra(config))
    metric = objectives(experiment)[0].name
    with_rows = winners.has_rows(experiment)
    own = _complete(confirmation, confirmation.winner.name)
    others = _complete(confirmation, confirmation.default.name)
    first = winners.side_of(store, "the winner", own, metric, with_rows=with_rows)
    second = winners.side_of(store, "the default config", others, metric, with_rows=with_rows)
    sides = [second, *(winners.baselines(experiment) if with_rows else [])]
    truth = winners.truth_of(store, own[0]) if with_rows else []
    splits = splits_of(experiment)
    labels = list(splits.targets.counts)
    assert splits.test is not None  # the config reads it
    validation = [metrics_of(run)[f"val/{metric}"] for run in own]
    score = confirmation.trial.values[0]
    sign = 1.0 if objectives(experiment)[0].direction == "maximize" else -1.0
    report = winners.WinnerReport(
        trial=confirmation.trial.number,
        metric=f"test/{metric}",
        rows=len(truth),
        mean=first.mean,
        spread=first.spread,
        seeds=len(first.scores),
        search_score=score,
        validation_mean=fmean(validation),
        selection_gap=sign * (score - fmean(validation)),
        test_reads=count_runs(store, tags.TEST_ROWS, splits.test.digest),
        against=[winners.judge(first, side, truth, metric, labels) for side in sides],
    )
    log_texts(store, confirmation.parent.info.run_id, {FILE: report.as_json()})
    points = {
        "confirm/mean": report.mean,
        "confirm/selection_gap": report.selection_gap,
        "confirm/difference": report.against[0].difference,
        "confirm/p": report.against[0].p,
    }
    log_progress(store, confirmation.parent.info.run_id, report.trial, points)
    write_report(store, full, confirmation.storage)
    return report


def _complete(confirmation: Confirmation, study: str) -> list[Run]:
    """Return a study's complete runs on the fresh seeds, in the seeds' order."""
    runs = [
        run
        for run in trials_of(confirmation.store, study)
        if run.data.tags.get(tags.STATE) == "complete"
        and int(run.data.params[SEED]) in confirmation.seeds
    ]
    by_seed = {int(run.data.params[SEED]): run for run in runs}
    if len(by_seed) < 2:
        raise TrackingError(
            f"study {study}: {len(by_seed)} of {len(confirmation.seeds)} seeds are complete; "
            "expected two at least. Run the same command to resume."
        )
    return [by_seed[seed] for seed in sorted(by_seed)]
