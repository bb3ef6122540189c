"""Warm start: what earlier studies found out, told to the sampler of a new one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, create_trial
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import ConfigError, did_you_mean, listing, masked
from pipeline.search.space import Params, Space, plain, text_of
from pipeline.search.study import FINGERPRINT, open_storage
from pipeline.search.trials import IMPORTED, ended

_WARM = "warm_start"  # user attribute of the study: earlier study -> what came of it
JOURNAL = "study.journal"
_OBJECTIVE = "evaluation.objective"  # of our own runs: what their scores mean


def sources_of(option: Any) -> list[str]:
    """Read ``hydra.sweeper.warm_start``: nothing, a name, or a list of names.

    Raises:
        ConfigError: for anything else.
    """
    names = [option] if isinstance(option, str) else option or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f"hydra.sweeper.warm_start={option}: expected the name of a study, or a list of them."
        )
    return names


def warm_start(
    study: optuna.Study, space: Space, sources: list[str], storage: str, base: Mapping[str, Any]
) -> list[str]:
    """Copy the complete trials of earlier studies that this space could have made; once a study.

    Args:
        study: the new one.
        space: its space.
        sources: names of studies that are kept as this one is, or ``storage#name``.
        storage: where this study is kept.
        base: values of what this study keeps fixed, by the keys of the config.

    Returns:
        A line for each earlier study.

    Raises:
        ConfigError: for a study that is not there, or judges by something else.
    """
    told: dict[str, str] = study.user_attrs.get(_WARM, {})
    for source in sources:
        if source in told:
            continue
        former = _open(source, storage)
        _check_scores(study, former, source, base)
        fitting = [(t, _translated(t, former, space, base)) for t in ended(former, "complete")]
        copies = [_copy(t, params, space, source) for t, params in fitting if params is not None]
        study.add_trials(copies)
        line = f"warm start: {len(copies)} of {len(fitting)} trials of {source} fit"
        told = {**told, source: line}
        study.set_user_attr(_WARM, told)
    return [told[source] for source in sources]


def _open(source: str, storage: str) -> optuna.Study:
    place, _, name = source.rpartition("#")
    folder = Path(storage).parent.parent  # each study kept in a journal has a folder there
    if not place:
        place = storage if "://" in storage else str(folder / name / JOURNAL)
    if "://" not in place and not Path(place).is_file():
        known = [path.parent.name for path in sorted(folder.glob(f"*/{JOURNAL}"))]
        raise ConfigError(
            f"hydra.sweeper.warm_start={source}: there is no {place}.{did_you_mean(name, known)} "
            f"Studies beside this one: {listing(known) or 'none'}."
        )
    try:
        opened: str | BaseStorage = open_storage(place)
        return optuna.load_study(study_name=name, storage=opened)
    except (KeyError, ValueError, OSError, ImportError, SQLAlchemyError) as error:
        reason = masked(" ".join(str(error).split()))[:300] or type(error).__name__
        raise ConfigError(
            f"hydra.sweeper.warm_start={masked(source)}: no study {name} to be read in "
            f"{masked(place)}: {reason}"
        ) from error


def _check_scores(
    study: optuna.Study, former: optuna.Study, source: str, base: Mapping[str, Any]
) -> None:
    """Refuse scores that do not mean what this study's do."""
    now: dict[str, Any] = {"direction": [d.name.lower() for d in study.directions]}
    then: dict[str, Any] = {"direction": [d.name.lower() for d in former.directions]}
    objective = former.user_attrs.get(FINGERPRINT, {}).get(_OBJECTIVE)
    if objective is not None and _OBJECTIVE in base:
        now[_OBJECTIVE], then[_OBJECTIVE] = base[_OBJECTIVE], objective
    for key in now:
        if now[key] != then[key]:
            raise ConfigError(
                f"hydra.sweeper.warm_start={source}: its {key} is {then[key]}, and this study's "
                f"is {now[key]}; its scores say nothing here."
            )


def _translated(
    trial: FrozenTrial, former: optuna.Study, space: Space, base: Mapping[str, Any]
) -> Params | None:
    """Return a trial's parameters in this space, or None where it does not fit.

    What was fixed there and is searched here comes from the former study's config; what was
    searched there and is fixed here must have this study's value.
    """
    own = {key for d in space.dimensions for key in d.keys}
    settings = _settings(trial.params)
    for key in settings.keys() - own:
        if key not in base or text_of(base[key]) != text_of(settings[key]):
            return None
    fixed = former.user_attrs.get(FINGERPRINT, {})
    try:
        point = space.fit({key: value for key, value in settings.items() if key in own})
        while dimension := space.opened(point):
            given = {key: fixed[key] for key in dimension.keys if key in fixed}
            if len(given) < len(dimension.keys):
                return None
            point[dimension.key] = dimension.match(given)
    except ValueError:
        return None
    return point if space.allows(point) else None


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what parameters of another study set; pairs and conditional keys show in names."""
    settings: dict[str, Any] = {}
    for name, value in params.items():
        if " with " in name:
            texts = str(value).split(" with ")
            settings |= dict(zip(name.split(" with "), map(_read, texts), strict=False))
        else:
            settings[name.partition(" for ")[0]] = plain(value)
    return settings


def _read(text: str) -> Any:
    value = OverridesParser.create().parse_override(f"key={text}").value()
    return value if isinstance(value, int | float | bool | None) else text


def _copy(trial: FrozenTrial, params: Params, space: Space, source: str) -> FrozenTrial:
    return create_trial(
        params=params,
        distributions={key: space.distributions[key] for key in params},
        values=list(trial.values),
        user_attrs={IMPORTED: source},
        constraints=dict(trial.constraints) or None,
    )
