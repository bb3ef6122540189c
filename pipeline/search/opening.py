"""Opening a search: its space is read and checked, its study opened and taught what is known."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig

from pipeline.config.compose import changing
from pipeline.config.flat import flatten, tree
from pipeline.search.composer import Composer
from pipeline.search.dry_run import open_copy
from pipeline.search.options import Options
from pipeline.search.plan import fingerprint, make_spec, study_name
from pipeline.search.searchable import Searchable
from pipeline.search.space.change import hint_of_neighbour, open_or_continue
from pipeline.search.staging import probes_of, read_space
from pipeline.search.study.history import recommended
from pipeline.search.study.liveness import Watch
from pipeline.search.study.queue import settle
from pipeline.search.study.stages import Stages
from pipeline.search.study.steering import resume
from pipeline.search.study.study import StudySpec
from pipeline.search.study.warm_start import JOURNAL, sources_of, warm_start


@dataclass(frozen=True)
class Search:
    """A study that is open, and what it is searched with."""

    study: optuna.Study
    spec: StudySpec
    probes: list[list[DictConfig]]  # by stage: a config for each value that must work
    lines: list[str]  # what to say of it after the plan

    @property
    def base(self) -> DictConfig:
        """The config of the first point."""
        return self.probes[0][0]

    @cached_property
    def stages(self) -> Stages:
        """The stages of the search, if it has any."""
        return Stages(self.study, self.spec)


class Opening:
    """Opens the study of a sweep; its name and place are set in the sweep's config as well."""

    def __init__(
        self, config: DictConfig, options: Options, composer: Composer, task: Searchable
    ) -> None:
        self._config = config
        self._options = options
        self._composer = composer
        self._task = task

    def open(self, arguments: list[str]) -> Search:
        """Open the study that the command line's overrides, sweeping and fixed, describe.

        Raises:
            ConfigError: for a space, sampler or key that cannot work.
        """
        return self._open(*self._checked(arguments))

    def _checked(
        self, arguments: list[str]
    ) -> tuple[StudySpec, list[list[DictConfig]], dict[str, Any]]:
        """Return the study's spec, the configs that must work, and the study's fingerprint."""
        space = read_space(self._composer, self._options, arguments)
        probes = probes_of(self._composer, space)
        base = probes[0][0]
        spec = make_spec(self._options, space, base, self._task)
        content = self._task.prepare(list(chain.from_iterable(probes)))
        common = fingerprint(base, spec, content, self._task)
        name = study_name(self._options, self._config.hydra.job.name, spec, common)
        return self._placed(spec, name), probes, common

    def _open(
        self, spec: StudySpec, probes: list[list[DictConfig]], common: Mapping[str, Any]
    ) -> Search:
        """Open the study, settle what died in it, and teach it what earlier studies found out."""
        base, is_dry = probes[0][0], self._options.dry_run
        known = {**flatten(tree(base)), **self._composer.choices}
        if not is_dry:
            self._task.connect(base)
        opened = open_or_continue(
            spec,
            common,
            known,
            self._task.migrated,
            self._options.on_change,
            partial(self._placed, spec),
            open_copy if is_dry else StudySpec.open,
        )
        resume(opened.study)
        settle(opened.study, opened.spec, Watch(), is_start=True)
        first, own = Stages(opened.study, opened.spec).first()
        learned = warm_start(
            first,
            own.space,
            sources_of(self._options.warm_start),
            spec.storage,
            known,
            partial(self._task.prior_trials, base),
            self._task.migrated,
        )
        former = partial(self._task.former_studies, base, own)
        points, said = recommended(opened.study, own, former)
        spec = replace(opened.spec, history=points)
        lines = [*opened.lines, *learned, *said]
        if opened.is_new and self._options.study_name is None:
            job = self._config.hydra.job.name
            lines += hint_of_neighbour(opened.spec, common, known, self._task.migrated, job)
        return Search(opened.study, spec, probes, lines)

    def _placed(self, spec: StudySpec, name: str) -> StudySpec:
        """Give a spec a study's name, and its storage where none is given: the study's folder."""
        with changing(self._config.hydra):
            self._config.hydra.sweeper.study_name = name
        journal = Path(self._config.hydra.sweep.dir, JOURNAL).absolute()
        placed = replace(spec, name=name, storage=self._options.storage or str(journal))
        self._composer.naming = placed.naming
        return placed
