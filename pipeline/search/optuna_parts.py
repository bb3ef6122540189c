"""Optuna's private parts: the only file that touches them.

Optuna's public API is made for one process that runs its trials in ``Study.optimize``. What ours
needs beyond it:

- ``Study._storage``, ``Study._study_id``, ``FrozenTrial._trial_id``: a trial that another process
  left is marked, a queued one taken back, and a score reported in a study with several objectives
  (``Trial.report`` refuses that). Under Hyperband samplers see a part of the study; its trials in
  all are in the storage. A stage's storage shows its own trials only.
- ``Study._pop_waiting_trial_id``: which queued trial is asked for next.
- ``QMCSampler._find_sample_id``: the position of a trial in a quasi-random sequence.
- ``TPESampler._build_parzen_estimator``: which trials a density is made of.
- ``_search_space``: what a sampler has read of the trials' common space.
- ``JournalOperation``: which lines a journal may have.
- ``system_attrs["fixed_params"]``: the parameters that a trial was queued with.
"""

import contextlib
import copy
import json
from collections.abc import Container, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages.journal._storage import JournalOperation
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

NEXT = "next"  # user attribute of a queued trial: it is asked for before the others


class Queue(optuna.Study):
    """A study whose queue has a fast lane."""

    def _pop_waiting_trial_id(self) -> int | None:
        waiting = self.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        for trial in waiting:
            with contextlib.suppress(UpdateFinishedTrialError):  # another worker was faster
                if NEXT in trial.user_attrs and self._storage.set_trial_state_values(
                    trial._trial_id, TrialState.RUNNING
                ):
                    return trial._trial_id
        return super()._pop_waiting_trial_id()


def with_queue(study: optuna.Study) -> Queue:
    """Return a study with its queue as ours."""
    return Queue(study.study_name, study._storage, study.sampler, study.pruner)


def note(study: optuna.Study, trial: Trial | FrozenTrial, key: str, value: Any) -> None:
    """Set a user attribute from another process or thread than the one that runs the trial."""
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


def report_step(study: optuna.Study, trial: Trial | FrozenTrial, step: int, score: float) -> None:
    """Report a trial's score on the way, also in a study with several objectives."""
    study._storage.set_trial_intermediate_value(trial._trial_id, step, score)


def latest(study: optuna.Study, trial: Trial) -> FrozenTrial:
    """Read a trial as the storage has it now."""
    return study._storage.get_trial(trial._trial_id)


def take_back(study: optuna.Study, queued: FrozenTrial, mark: str) -> None:
    """End a queued trial with a mark, unless somebody has just begun it."""
    storage, trial_id = study._storage, queued._trial_id
    try:
        if storage.set_trial_state_values(trial_id, TrialState.RUNNING):
            storage.set_trial_user_attr(trial_id, mark, True)
            storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:  # another search was faster
        return


def every_trial(study: optuna.Study) -> list[FrozenTrial]:
    """Return a study's trials, also of one that shows a sampler only some of them."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def trials_by_number(study: optuna.Study) -> list[FrozenTrial]:
    """Return a study's trials at the places of their numbers: those of other parts included."""
    whole: BaseStorage = getattr(study._storage, "whole", study._storage)
    return whole.get_all_trials(study._study_id, deepcopy=False)


def queued_params(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """Return the parameters that a trial was queued with; None where it was not queued."""
    params: Mapping[str, Any] | None = trial.system_attrs.get("fixed_params")
    return params


def is_journal_line(line: bytes) -> bool:
    """Whether a line of a journal is an operation that Optuna knows."""
    try:
        return is_operation(json.loads(line))
    except ValueError:
        return False


def is_operation(log: Any) -> bool:
    """Whether what a journal has is an operation that Optuna knows, whose scores are numbers."""
    try:
        JournalOperation(log["op_code"])
        scores = [*(log.get("values") or ()), log.get("intermediate_value", 0.0)]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return all(isinstance(score, int | float) for score in scores)


def as_one_objective(study: optuna.Study, direction: StudyDirection) -> optuna.Study:
    """Return a view of a study in which the one objective is what trials report."""
    one: Any = _OneObjective(study._storage, direction)
    return optuna.Study(study.study_name, one, study.sampler, optuna.pruners.NopPruner())


class _OneObjective:
    """A storage that shows pruners the one objective that trials report."""

    def __init__(self, storage: BaseStorage, direction: StudyDirection) -> None:
        self._whole = storage
        self._direction = direction

    def get_study_directions(self, _: int) -> list[StudyDirection]:
        """Return that objective's direction."""
        return [self._direction]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


class PartOfStudy(Queue):
    """The trials of a study that have a mark, as a study of their own; new ones get the mark.

    Args:
        whole: the study.
        sampler: of the part.
        key: the user attribute by whose value trials are told apart.
        marks: the attributes that new trials get, that one among them.
    """

    def __init__(
        self,
        whole: optuna.Study,
        sampler: optuna.samplers.BaseSampler,
        key: str,
        marks: Mapping[str, Any],
    ) -> None:
        part: Any = _PartOfStorage(whole._storage, key, marks)
        super().__init__(whole.study_name, part, sampler, whole.pruner)
        self.whole = whole


def whole_of(study: optuna.Study) -> optuna.Study:
    """Return the study that a part is of, or the study itself."""
    return study.whole if isinstance(study, PartOfStudy) else study


class _PartOfStorage:
    """A storage that shows and makes the trials of a part of a study."""

    def __init__(self, whole: BaseStorage, key: str, marks: Mapping[str, Any]) -> None:
        self.whole = whole
        self._key = key
        self._marks = dict(marks)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the part's trials."""
        every = self.whole.get_all_trials(study_id, deepcopy, states)
        return [t for t in every if t.user_attrs.get(self._key) == self._marks[self._key]]

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial that has the marks from the start."""
        template = copy.deepcopy(template_trial) or create_trial(state=TrialState.RUNNING)
        template.user_attrs = {**self._marks, **template.user_attrs}
        return self.whole.create_new_trial(study_id, template)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


MOST_KERNELS = 1000  # of TPE's density of the trials that are not among the best


class ThinnedTpe(optuna.samplers.TPESampler):
    """TPE whose work for a trial does not grow with the study.

    It sets aside the best trials, at most 25 where there is one objective, and compares their
    density with that of all others. Of these every k-th makes that density, so that there are at
    most `MOST_KERNELS`: an even sample in time, as the weights of old trials fall with their age.
    """

    def _build_parzen_estimator(
        self,
        study: optuna.Study,
        search_space: dict[str, BaseDistribution],
        trials: list[FrozenTrial],
        handle_below: bool,
    ) -> Any:
        if not handle_below:
            every = -(-len(trials) // MOST_KERNELS)
            trials = trials[:: every or 1]
        return super()._build_parzen_estimator(study, search_space, trials, handle_below)


def share_space(of: optuna.samplers.BaseSampler, to: optuna.samplers.BaseSampler) -> None:
    """Hand on what a sampler has read of the trials' common space, so that it is read once."""
    if hasattr(of, "_search_space"):
        to._search_space = of._search_space  # type: ignore[attr-defined]


class PlacedQmc(optuna.samplers.QMCSampler):
    """A quasi-random sequence in which a trial's place is its position; without one, it is random.

    Optuna counts positions in the storage, not atomically: two workers may get the same one, and
    the retry of a killed trial uses one up.
    """

    def __init__(
        self,
        *,
        distributions: Mapping[str, BaseDistribution],
        place: int | None = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        own = {k: d for k, d in distributions.items() if not d.single()}
        self._coordinates = {} if place is None else own
        self._place = place or 0

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """Return the whole space: with Optuna's, that of the first trial, that one has none."""
        return self._coordinates

    def _find_sample_id(self, *_: Any) -> int:
        return self._place
