"""The stages of a study: each has trials of its own, and begins from the best trial before it."""

from collections.abc import Iterator
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from pipeline.search.optuna_parts import PartOfStudy
from pipeline.search.samplers import make_sampler
from pipeline.search.space.space import Space
from pipeline.search.space.stages import Stage, StagedSpace
from pipeline.search.study.queue import is_done
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import FIXED, REASON, STAGE, all_params, best_first, ended


class Stages:
    """Finds the stage that a search is in; a search without stages is in its only one.

    Args:
        study: all trials.
        spec: of the whole study.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec) -> None:
        self._study = study
        self._spec = spec
        self._begun: dict[int, tuple[optuna.Study, StudySpec]] = {}

    def first(self) -> tuple[optuna.Study, StudySpec]:
        """Return the first stage: its trials as a study, and its spec."""
        return self._begin(self._spec.stages[0]) if self._spec.stages else (self._study, self._spec)

    def current(self) -> tuple[optuna.Study, StudySpec]:
        """Return the first stage that is not done, or the last: its trials as a study, its spec.

        A stage of which no trial is complete is followed by none.
        """
        found = self._study, self._spec
        for stage in self._spec.stages:
            if stage.number > 1 and not ended(found[0], "complete"):
                break
            found = self._begin(stage)
            if not is_done(*found):
                break
        return found

    def ahead(self) -> Iterator[tuple[optuna.Study, StudySpec]]:
        """Yield the current stage, and those to come as if some point of it were the best."""
        study, spec = self.current()
        yield study, spec
        for stage in self._spec.stages[spec.stage :]:
            space = self._spec.space
            assert isinstance(space, StagedSpace)
            own = _spec_of(self._spec, stage, space.standing_in(stage))
            yield _part(self._study, own, {STAGE: stage.number}), own

    def is_done(self) -> bool:
        """Whether the last stage has ended as many trials as asked for."""
        study, spec = self.current()
        return spec.stage == len(self._spec.stages) and is_done(study, spec)

    def why_over(self) -> str | None:
        """Say why no further trial may begin, or return None; n_trials is not asked."""
        study, spec = self.current()
        return spec.why_over(study) or self.why_stuck()

    def why_stuck(self) -> str | None:
        """Say of a stage that it is over without a complete trial, or return None."""
        study, spec = self.current()
        if not spec.stage or not is_done(study, spec) or ended(study, "complete"):
            return None
        reasons = [str(t.user_attrs.get(REASON)) for t in ended(study, "failed")]
        first = f" The first that failed: {reasons[0]}" if reasons else ""
        return f"stage {spec.stage}: no trial is complete.{first}"

    def _begin(self, stage: Stage) -> tuple[optuna.Study, StudySpec]:
        if stage.number not in self._begun:
            best = {} if stage.number == 1 else all_params(_origin(self._study, stage.number))
            assert isinstance(self._spec.space, StagedSpace)
            space, fixed = stage.begun(best, self._spec.space.every)
            spec = _spec_of(self._spec, stage, space)
            marks = {STAGE: stage.number, FIXED: fixed}
            self._begun[stage.number] = _part(self._study, spec, marks), spec
        return self._begun[stage.number]


def _spec_of(whole: StudySpec, stage: Stage, space: Space) -> StudySpec:
    budget = replace(whole.budget, n_trials=stage.n_trials or 0)
    history = whole.history if stage.number == 1 else ()
    return replace(whole, space=space, budget=budget, stage=stage.number, history=history)


def _part(study: optuna.Study, spec: StudySpec, marks: dict[str, object]) -> PartOfStudy:
    sampler = make_sampler(spec.sampler, spec.space, spec.seed, spec.reported)
    return PartOfStudy(study, sampler, STAGE, marks)


def _origin(study: optuna.Study, number: int) -> FrozenTrial:
    """Return the trial that a stage begins from, once and for all the best one by then."""
    key = f"stage {number} begins from trial"
    known = study.user_attrs.get(key)
    if known is None:
        known = best_first(study)[0].number
        study.set_user_attr(key, known)
    return study.get_trials(deepcopy=False)[known]
