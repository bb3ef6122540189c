"""A changed space: what of a study still fits the new one, and the two ways to continue it.

Trials that are over take no mark and no other parameter. So a study that is continued names those
that do not fit any more as set aside; a fork is a new study with copies of those that fit.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.common.errors import ConfigError, TrackingError, amount
from pipeline.search.optuna_parts import take_back
from pipeline.search.space.dimension import Params
from pipeline.search.space.space import Space
from pipeline.search.space.transfer import (
    Migrate,
    fingerprint_of,
    prefixes,
    settings_of,
    translated,
)
from pipeline.search.study.history import HISTORY
from pipeline.search.study.liveness import BEAT, OWNER, Watch
from pipeline.search.study.queue import FIRST, handed_on, settle
from pipeline.search.study.storage import open_storage, seek_study
from pipeline.search.study.study import FINGERPRINT, SPACE, StudySpec
from pipeline.search.study.trials import (
    ADDED,
    ATTEMPT,
    CONTINUES,
    COPIED,
    KILLED,
    PAUSED_AT,
    REPLACES,
    SET_ASIDE,
    counted,
    ended,
    params_of,
)
from pipeline.search.study.warm_start import JOURNAL

_FORK_OF = "fork_of"  # user attribute of a study: the one that it was forked from
_FORKED = "forked"  # user attribute of a fork: what came of it, once all copies are there
# Of a trial, and of its own study only.
_NOT_COPIED = (OWNER, BEAT, ATTEMPT, CONTINUES, PAUSED_AT, REPLACES)
MOST_NEIGHBOURS = 50  # studies next to a new one that are looked at


@dataclass(frozen=True)
class Opened:
    """A study that this search may use."""

    study: optuna.Study
    spec: StudySpec
    is_new: bool
    lines: tuple[str, ...] = ()  # what to say of it


def open_or_continue(
    spec: StudySpec,
    common: Mapping[str, Any],
    base: Mapping[str, Any],
    migrate: Migrate,
    on_change: str,
    place: Callable[[str], StudySpec],
    opening: Callable[[StudySpec], optuna.Study] = StudySpec.open,
) -> Opened:
    """Open the study that a search continues, or a new one where there is none yet.

    Args:
        spec: with the study's name and place.
        common: the study's fingerprint.
        base: values of what this search keeps fixed, by the keys of the config.
        migrate: gives recorded values under today's names.
        on_change: ``refuse``, ``continue`` or ``fork``: what to do where the space is another.
        place: gives the spec another study's name, and the place that comes with it.
        opening: opens a study that is to be written to; a dry run's is a copy.

    Raises:
        ConfigError: where the study was made with another config, or with another space and that
            is refused.
    """
    study = opening(spec)
    recorded: dict[str, Any] | None = study.user_attrs.get(FINGERPRINT)
    now = json.loads(json.dumps(common))
    if recorded is None:
        study.set_user_attr(FINGERPRINT, now)
        return Opened(study, spec, is_new=True)
    if recorded == now:
        return Opened(study, spec, is_new=False)
    prior = fingerprint_of(study, base, migrate)
    change = _Change(study, spec, prior, now, base, migrate)
    if prior == now:  # the same search, begun before keys were renamed or added
        if recorded[SPACE] == now[SPACE]:
            study.set_user_attr(FINGERPRINT, now)
        else:  # its trials have other names
            _adopt(change)
        return Opened(study, spec, is_new=False)
    other = _beyond_space(prior, now, spec)
    if other is not None:
        raise ConfigError(
            f"hydra.sweeper.study_name={spec.name}: this study was begun with "
            f"{other}={prior.get(other)!r}, found {now.get(other)!r}. Give the "
            "previous value to continue it, or another study_name."
        )
    if on_change == "fork":
        return _fork(change, place, opening)
    clash = change.clash()
    if on_change == "continue" and clash is None:
        fits = change.fits()
        _adopt(change)
        line = (
            f"study {spec.name} continues with another space ({change.describe()}): "
            f"{fits} fit and stay counted"
        )
        return Opened(study, spec, is_new=False, lines=(line,))
    raise ConfigError(_choices(change, clash))


def hint_of_neighbour(
    spec: StudySpec, common: Mapping[str, Any], base: Mapping[str, Any], migrate: Migrate, job: str
) -> list[str]:
    """Return a line on the study of this job, kept next to this one, with the most fitting trials.

    Only journals that lie as its own does are looked at. ``job`` is the Hydra job's name, which
    names given by us begin with; the others are as `open_or_continue` has them.
    """
    own = Path(spec.storage)
    if "://" in spec.storage or own.parent.name != spec.name:
        return []
    journals = [p for p in own.parent.parent.glob(f"{job}-*/{JOURNAL}") if p != own]
    now = json.loads(json.dumps(common))
    found: list[tuple[int, int, str]] = []
    for journal in journals if len(journals) <= MOST_NEIGHBOURS else ():
        name = journal.parent.name
        try:
            study = optuna.load_study(study_name=name, storage=open_storage(str(journal)))
        except (KeyError, ValueError, OSError):
            continue  # not ours, or torn: only a hint would come of it
        prior = fingerprint_of(study, base, migrate)
        if prior == now and study.user_attrs[FINGERPRINT] != now:
            return [
                f"study {name} is the same search, begun before keys were renamed or added: "
                f"hydra.sweeper.study_name={name} resumes it."
            ]
        if SPACE in prior and prior != now and _beyond_space(prior, now, spec) is None:
            change = _Change(study, spec, prior, now, base, migrate)
            found.append((len(change.fitting()), len(ended(study, "complete")), name))
    fits, count, name = max(found, default=(0, 0, ""))
    if not fits:
        return []
    given = f"hydra.sweeper.study_name={name} hydra.sweeper.on_change=fork"
    return [
        f"study {name} differs in its space only; {fits} of its {count} complete trials fit here: "
        f"hydra.sweeper.warm_start={name} learns from them, {given} counts them."
    ]


@dataclass(frozen=True)
class _Change:
    """A study and what is wanted of it now, which differs in the space only."""

    study: optuna.Study
    spec: StudySpec
    prior: Mapping[str, Any]  # its fingerprint, under today's names
    now: Mapping[str, Any]  # the one that is wanted
    base: Mapping[str, Any]
    migrate: Migrate

    def fitted(self, trial: FrozenTrial) -> Params | None:
        """Return a trial's parameters in the new space, or None where it does not fit."""
        settings = self.migrate(settings_of(params_of(trial)))
        return translated(settings, self.prior, self.spec.space, self.base)

    def is_added(self, trial: FrozenTrial) -> bool:
        """Whether a user added this point, whole or in part, and the new space has it too."""
        params, space = params_of(trial), self.spec.space
        try:
            found = space.match(self.migrate(settings_of(params)))
        except ValueError:
            return False
        return ADDED in trial.user_attrs and found == params and space.allows(params, partial=True)

    def fitting(self) -> list[tuple[FrozenTrial, Params]]:
        """Return the complete trials that fit, with their parameters in the new space."""
        fitted = [(trial, self.fitted(trial)) for trial in ended(self.study, "complete")]
        return [(trial, params) for trial, params in fitted if params is not None]

    def fits(self) -> str:
        """Say how many trials fit."""
        return f"{len(self.fitting())} of its {len(ended(self.study, 'complete'))} complete trials"

    def clash(self) -> str | None:
        """Return a key that Optuna does not let one study have in both spaces, or None."""
        for trial in self.study.get_trials(deepcopy=False):
            for key in trial.distributions.keys() & self.spec.space.distributions.keys():
                try:
                    check_distribution_compatibility(
                        trial.distributions[key], self.spec.space.distributions[key]
                    )
                except ValueError:
                    return key
        return None

    def describe(self) -> str:
        """Say which keys changed, and how."""
        then, now = self.prior[SPACE], self.now[SPACE]
        parts = []
        for key in [*then, *(key for key in now if key not in then)]:
            if key not in now:
                fixed = f", is {self.now[key]}" if key in self.now else ""
                parts.append(f"{key} removed (was {then[key]}{fixed})")
            elif key not in then:
                fixed = f" (was {self.prior[key]})" if key in self.prior else ""
                parts.append(f"{key} added: {now[key]}{fixed}")
            elif then[key] != now[key]:
                parts.append(f"{key}: {then[key]} -> {now[key]}")
        return "; ".join(parts)


def _beyond_space(prior: Mapping[str, Any], now: Mapping[str, Any], spec: StudySpec) -> str | None:
    """Return a key in which two fingerprints differ beyond what is searched, or None."""
    spaces: list[Mapping[str, str]] = [f.get(SPACE, {}) for f in (prior, now)]

    def in_group(key: str, side: int) -> bool:
        return f"{key}.".startswith(prefixes(spaces[side]))

    for key in sorted((prior.keys() | now.keys()) - {SPACE}):
        if key in prior and key in now:
            same = prior[key] == now[key]
        else:
            here = int(key in now)  # the side that has it; in the other it may be searched
            same = f"{key}." in prefixes(spaces[1 - here]) or (
                in_group(key, 1 - here)
                # A value that is given for what lies in a searched group is no part of the space.
                and not in_group(key, here)
                and not (here and key in spec.space.fixed_keys)
            )
        if not same:
            return key
    return None


def _choices(change: _Change, clash: str | None) -> str:
    """Say what changed, what of it fits, and which ways there are."""
    name = change.study.study_name
    if clash is not None:
        may_continue = (
            "is not possible: Optuna keeps the values of a choice, and the scale of a range, as a "
            f"study began with them, and {clash} has others now"
        )
    else:
        may_continue = "continues this study: they stay counted, and the others are set aside"
    return (
        f"hydra.sweeper.study_name={name}: the space has changed: {change.describe()}. "
        f"{change.fits()} fit the new one. hydra.sweeper.on_change=continue {may_continue}. "
        f"hydra.sweeper.on_change=fork begins a study {name}-2 (or the next free number) with "
        "copies of those that fit, and leaves this one as it is. Or give the previous space, or "
        "another study_name."
    )


def _adopt(change: _Change) -> None:
    """Give a study the new fingerprint, and the new space those of its trials that fit it."""
    study, spec = change.study, change.spec
    settle(study, spec, Watch(), is_start=True)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if running:
        raise ConfigError(
            f"hydra.sweeper.on_change=continue: trial {running[0].number} of "
            f"{study.study_name} is running with the previous space; end that search first, and "
            "wait a minute if it ran on another machine."
        )
    aside: set[int] = set(study.user_attrs.get(SET_ASIDE, ()))
    copies = []
    for trial in counted(study, waiting=True):
        params = change.fitted(trial)
        if trial.state == TrialState.WAITING:
            if params != params_of(trial) and not change.is_added(trial):
                take_back(study, trial, KILLED)  # the new space queues its own
        elif params is None:
            aside.add(trial.number)
        elif params != spec.space.own(trial.params):
            # A key was not searched then or had another name, so it needs that parameter.
            copies.append(_copy(trial, params, spec.space, {REPLACES: trial.number}))
    study.set_user_attr(SET_ASIDE, sorted(aside))
    study.add_trials(copies)
    study.set_user_attr(FIRST, None)
    study.set_user_attr(HISTORY, None)
    study.set_user_attr(FINGERPRINT, change.now)


def _fork(
    change: _Change, place: Callable[[str], StudySpec], opening: Callable[[StudySpec], optuna.Study]
) -> Opened:
    """Open the fork with this space; it is made where it is not there yet."""
    origin = change.study.study_name
    for number in itertools.count(2):
        spec = place(f"{origin}-{number}")
        if _is_free(spec, origin, change.now):
            break
    study = opening(spec)
    study.set_user_attr(_FORK_OF, origin)
    study.set_user_attr(FINGERPRINT, change.now)
    line = study.user_attrs.get(_FORKED)
    if line is None:
        there = {trial.user_attrs.get(COPIED) for trial in study.get_trials(deepcopy=False)}
        for trial, params in change.fitting():
            source = f"{origin}#{trial.number}"
            if source not in there:  # where an earlier start was cut short in this very place
                study.add_trial(_copy(trial, params, spec.space, {COPIED: source}))
        count = _queue_added(change, study)
        too = f", and {amount(count, 'added point')}, not begun yet," if count else ""
        line = f"forked from {origin}: {change.fits()}{too} are copied"
        study.set_user_attr(_FORKED, line)
    return Opened(study, spec, is_new=False, lines=(str(line),))


def _queue_added(change: _Change, fork: optuna.Study) -> int:
    """Queue the points that a user added to a study, and no trial has begun, in its fork too."""
    there = {trial.user_attrs.get(ADDED) for trial in fork.get_trials(deepcopy=False)}
    queued = change.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    added = [trial for trial in queued if change.is_added(trial)]
    for trial in added:
        if trial.user_attrs[ADDED] not in there:
            fork.enqueue_trial(params_of(trial), user_attrs=handed_on(trial))
    return len(added)


def _is_free(spec: StudySpec, origin: str, now: Mapping[str, Any]) -> bool:
    """Whether there is no study of this name, or it is the fork with this fingerprint."""
    try:
        found = seek_study(spec.name, spec.storage)
    except TrackingError:
        return False  # whatever it is, it is there
    if found is None:
        return True
    fingerprint = found.user_attrs.get(FINGERPRINT)
    return fingerprint is None or (fingerprint == now and found.user_attrs.get(_FORK_OF) == origin)


def _copy(trial: FrozenTrial, params: Params, space: Space, mark: Mapping[str, Any]) -> FrozenTrial:
    """Return a copy of a trial that is over, with its parameters in a space and its own times."""
    kept = {key: value for key, value in trial.user_attrs.items() if key not in _NOT_COPIED}
    copied = create_trial(
        state=trial.state,
        values=trial.values,
        params=params,
        distributions={key: space.distributions[key] for key in params},
        user_attrs={**kept, **mark},
        intermediate_values=trial.intermediate_values,
        constraints=dict(trial.constraints) or None,
    )
    copied.datetime_start, copied.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copied
