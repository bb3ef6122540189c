"""A study's spec: all that a worker needs to take part in it."""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage
from sqlalchemy.exc import NoSuchModuleError

from pipeline.common.contract import Direction
from pipeline.common.errors import TrackingError, is_disk_fault
from pipeline.common.secrets import masked
from pipeline.search.optuna_parts import with_queue
from pipeline.search.pruners import Pruner, make_pruner
from pipeline.search.samplers import GRID, make_sampler, sampler_name
from pipeline.search.space.dimension import Params
from pipeline.search.space.space import Space
from pipeline.search.space.stages import Stage, StagedSpace
from pipeline.search.study.budget import Budget
from pipeline.search.study.failures import why_hopeless
from pipeline.search.study.steering import why_stopped
from pipeline.search.study.storage import DRIVERS, UNREADABLE, damage, open_storage

FINGERPRINT = "fingerprint"  # user attribute of the study: what its trials have in common
SPACE = "search space"  # key of a fingerprint


@dataclass(frozen=True)
class StudySpec:
    """All that a worker needs to take part in a study; small, plain and picklable."""

    name: str
    storage: str  # path of a journal file, or a database URL
    directions: tuple[Direction, ...]
    space: Space
    sampler: Mapping[str, Any] = field(hash=False)
    pruner: Mapping[str, Any] = field(hash=False)
    reported: Direction  # of the score that trials report on the way
    unit: int  # steps that a trial reports for one unit of its budget
    seed: int
    budget: Budget
    max_failure_rate: float
    retries: int  # how often a point is begun again whose process died
    trial_seconds: float | None  # how long one trial may take
    seeds: tuple[int, ...] = ()  # that each point is run on; none: on the config's own
    stage: int = 0  # which of several this is the spec of; 0: of the whole study
    # First points that former studies recommend, after the space's own, and where each comes from.
    history: tuple[tuple[Params, str], ...] = field(default=(), hash=False)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the whole study; none where it has only one search."""
        return self.space.stages if isinstance(self.space, StagedSpace) else ()

    @property
    def most_at_once(self) -> int:
        """How many trials may run at the same time."""
        return max((one.n_trials or 0 for one in self.stages), default=self.budget.n_trials)

    @property
    def naming(self) -> str:
        """The override by which a job's config names the study, as the sweep's own does."""
        return f"hydra.sweeper.study_name='{self.name}'"

    @property
    def is_grid(self) -> bool:
        """Whether the points are the space's grid."""
        return sampler_name(self.sampler, self.space) == GRID

    @property
    def prunes(self) -> bool:
        """Whether trials may end early."""
        return not isinstance(self.make_pruner(), NopPruner)

    def why_over(self, study: optuna.Study) -> str | None:
        """Say why no further trial may begin, or return None; n_trials is not asked.

        A stage is hopeless, and without a better trial, by its own trials; the other limits are
        those of the whole study.
        """
        return (
            why_hopeless(study, self.max_failure_rate)
            or why_stopped(study)
            or self.budget.exhausted(study)
        )

    @property
    def first(self) -> list[Params]:
        """The points to begin with, also in part."""
        return [*self.space.first, *(params for params, _ in self.history)]

    def points(self) -> Iterator[Params]:
        """Yield the grid's points in the order in which they are to be run, as many as may be."""
        shuffled = self.sampler.get("shuffle", False)
        every = self.space.grid(random.Random(self.seed) if shuffled else None, self.first)
        return itertools.islice(every, self.budget.n_trials)

    def make_pruner(self) -> Pruner:
        """Make the study's pruner; every process has its own."""
        return make_pruner(self.pruner, self.unit)

    def open(self, storage: BaseStorage | None = None) -> optuna.Study:
        """Open the study, or one like it in another storage; it is made where it is not there yet.

        Raises:
            TrackingError: where the storage cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = self.make_pruner()
        try:
            study = optuna.create_study(
                study_name=self.name,
                storage=storage or open_storage(self.storage),
                sampler=make_sampler(self.sampler, self.space, self.seed, self.reported),
                # Where Optuna has a pruner that splits a study, its samplers must know.
                pruner=pruner if isinstance(pruner, BasePruner) else NopPruner(),
                directions=list(self.directions),
                load_if_exists=True,
            )
            return with_queue(study)
        except (*UNREADABLE, OptunaError) as error:
            if isinstance(error, OSError) and is_disk_fault(error):
                raise
            reason = damage(self.storage, self.name) or masked(str(error.__cause__ or error))
            reason = " ".join(reason.split())[:400]
            missing = isinstance(error, ImportError | NoSuchModuleError)
            raise TrackingError(
                f"hydra.sweeper.storage={masked(self.storage)}: the study cannot be opened: "
                f"{reason}{DRIVERS if missing else ''}"
            ) from error
