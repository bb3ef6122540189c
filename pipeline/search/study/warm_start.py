"""Warm start: what earlier studies found out, told to the sampler of a new one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import create_trial
from sqlalchemy.exc import SQLAlchemyError

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.secrets import masked
from pipeline.search.searchable import PriorTrial, PriorTrials
from pipeline.search.space.space import Space
from pipeline.search.space.transfer import Migrate, fingerprint_of, settings_of, translated
from pipeline.search.study.storage import open_storage
from pipeline.search.study.trials import IMPORTED, ended

_WARM = "warm_start"  # user attribute of the study: earlier study -> what came of it
JOURNAL = "study.journal"
MLFLOW = "mlflow:"  # begins a source that is no study's storage but its record
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
    study: optuna.Study,
    space: Space,
    sources: list[str],
    storage: str,
    base: Mapping[str, Any],
    recorded: Callable[[str, Space], PriorTrials],
    migrate: Migrate,
) -> list[str]:
    """Copy the complete trials of earlier studies that this space could have made; once a study.

    A source is the name of a study that is kept as this one is, or ``storage#name``, or
    ``mlflow:name``, of which ``recorded`` returns the trials. ``base`` has what this study keeps
    fixed, by the keys of the config.

    Returns:
        A line for each earlier study.

    Raises:
        ConfigError: for a study that is not there, or judges by something else.
    """
    told: dict[str, str] = study.user_attrs.get(_WARM, {})
    for source in sources:
        if masked(source) in told:
            continue
        if source.startswith(MLFLOW):
            prior = recorded(source.removeprefix(MLFLOW), space)
        else:
            prior = _kept(study, source, storage, base, migrate)
        fits = 0
        for trial in prior.trials:
            params = translated(trial.settings, trial.fixed, space, base)
            if params is not None:
                fits += 1
                study.add_trial(
                    create_trial(
                        params=params,
                        distributions={key: space.distributions[key] for key in params},
                        values=list(trial.values),
                        user_attrs={IMPORTED: masked(source)},
                        constraints=dict(trial.constraints) or None,
                    )
                )
        line = f"warm start: {fits} of {prior.count} trials of {masked(source)} fit"
        told = {**told, masked(source): line}
        study.set_user_attr(_WARM, told)
    return [told[masked(source)] for source in sources]


def _kept(
    study: optuna.Study, source: str, storage: str, base: Mapping[str, Any], migrate: Migrate
) -> PriorTrials:
    """Return the complete trials of a study that is kept in a storage."""
    prior = _open(source, storage)
    fixed = fingerprint_of(prior, base, migrate)
    _check_scores(study, prior, source, base, fixed.get(_OBJECTIVE))
    complete = ended(prior, "complete")
    trials = [
        PriorTrial(migrate(settings_of(t.params)), fixed, t.values, t.constraints) for t in complete
    ]
    return PriorTrials(trials, len(complete))


def _open(source: str, storage: str) -> optuna.Study:
    place, _, name = source.rpartition("#")
    folder = Path(storage).parent.parent  # each study kept in a journal has a folder there
    if not place:
        place = storage if "://" in storage else str(folder / name / JOURNAL)
    if "://" not in place and not Path(place).is_file():
        known = [path.parent.name for path in sorted(folder.glob(f"*/{JOURNAL}"))]
        raise ConfigError(
            f"hydra.sweeper.warm_start={masked(source)}: there is no {place}."
            f"{did_you_mean(name, known)} Studies next to this one: {listing(known) or 'none'}."
        )
    try:
        return optuna.load_study(study_name=name, storage=open_storage(place))
    except (KeyError, ValueError, OSError, ImportError, SQLAlchemyError) as error:
        reason = masked(" ".join(str(error).split()))[:300] or type(error).__name__
        raise ConfigError(
            f"hydra.sweeper.warm_start={masked(source)}: no study {name} to be read in "
            f"{masked(place)}: {reason}"
        ) from error


def _check_scores(
    study: optuna.Study,
    prior: optuna.Study,
    source: str,
    base: Mapping[str, Any],
    objective: str | None,
) -> None:
    """Refuse scores that do not mean what this study's do."""
    now: dict[str, Any] = {"direction": [d.name.lower() for d in study.directions]}
    then: dict[str, Any] = {"direction": [d.name.lower() for d in prior.directions]}
    if objective is not None and _OBJECTIVE in base:
        now[_OBJECTIVE], then[_OBJECTIVE] = base[_OBJECTIVE], objective
    for key in now:
        if now[key] != then[key]:
            raise ConfigError(
                f"hydra.sweeper.warm_start={masked(source)}: its {key} is {then[key]}, and this "
                f"study's is {now[key]}; its scores say nothing here."
            )
