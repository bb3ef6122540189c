"""A run made again from its record alone, and checked against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.compose import changing, compose, key_of, plain_errors, run_single, without_hydra
from pipeline.config import Experiment, flat, flatten, plain, validate
from pipeline.errors import ConfigError, listing
from pipeline.job import run_alone
from pipeline.run import check, inputs, inspect
from pipeline.tracking import Store, logged, open_store, tags
from pipeline.tracking.drift import Drift, config_drift, drifts
from pipeline.tracking.provenance import environment
from pipeline.tracking.verdict import Verdict, judge
from pipeline.trial import Trial
from pipeline.trial import Verdict as GoesOn
from pipeline.untrusted import check_values, read_config

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from pipeline.tracking.logged import LoggedRun
    from pipeline.trial import Result

_ENDED = ("complete", "pruned")  # what a rerun can be checked against
_OWN = ("tracking", "hydra")  # what is the user's own in every rerun


@dataclass(frozen=True)
class Rebuilt:
    """A record's experiment, ready to be run here."""

    record: LoggedRun
    config: DictConfig  # with the hydra node
    experiment: Experiment
    store: Store
    # What the config was made with, in the record and here: texts that nothing may interpolate.
    overrides: Sequence[str]
    choices: Mapping[str, str]


def rebuild(
    hydra: Hydra, source: str, overrides: Sequence[str], allowed: Sequence[Path]
) -> Rebuilt:
    """Make an experiment of a record, changed as the user says; nothing is run or written.

    Args:
        hydra: set up by `hydra_app`.
        source: a run's id, or a folder that was exported.
        overrides: the user's: where the store is, and what is to be otherwise than in the record.
        allowed: folders beside the working folder that the record may name.

    Raises:
        TunewrightError: for a record that is not there or not whole, that names code or files it
            may not, or that does not fit the schema.
    """
    own = [o for o in overrides if is_own(o)]
    changes = [o for o in overrides if o not in own]
    store = open_store(validate(without_hydra(compose(hydra, own))).tracking)
    record = logged.read(store, source)
    place = f"{record.place}, config.yaml"
    tree = read_config(record.config, place)
    groups = [o for o in changes if isinstance(tree.get(key_of(o)), Mapping)]
    config = compose(hydra, [*own, *groups])
    fresh = plain(without_hydra(config))
    for group in map(key_of, groups):
        tree[group] = fresh[group]
    for override in changes:
        if override not in groups:
            _set(tree, override)
    tree["tracking"] = fresh["tracking"]
    if record.experiment and not any(key_of(o) == "tracking.experiment" for o in own):
        if "${" in record.experiment:
            raise ConfigError(
                f"{record.place}: its experiment is called {record.experiment}, which Hydra would "
                "interpolate; give tracking.experiment=… yourself."
            )
        tree["tracking"]["experiment"] = record.experiment
    check_values(tree, allowed, [key_of(o) for o in changes], place)
    experiment = _validated(tree, place)
    with changing(config):
        for key in [key for key in config if key != "hydra"]:
            del config[key]
        for key, value in tree.items():
            config[key] = value
    said, chosen = record.provenance.get("overrides"), record.provenance.get("choices")
    ours = {key_of(group): group.partition("=")[2] for group in groups}
    return Rebuilt(
        record,
        config,
        experiment,
        open_store(experiment.tracking),
        overrides=[*map(str, said if isinstance(said, list) else []), *changes],
        choices={**_texts(chosen), **ours},
    )


def is_own(override: str) -> bool:
    """Whether an override says where the record goes and how the command runs, not what it runs."""
    return key_of(override).partition(".")[0] in _OWN


def drift_of(rebuilt: Rebuilt) -> list[Drift]:
    """Compare what the record was made with and what is here.

    Raises:
        TunewrightError: for data, a model or settings that cannot work here.
    """
    check(rebuilt.experiment)
    inspect(rebuilt.experiment)
    then = {**rebuilt.record.provenance, **rebuilt.record.inputs}
    now = {**environment(), **inputs(rebuilt.experiment)}
    before = flatten(read_config(rebuilt.record.config, rebuilt.record.place))
    return [config_drift(before, flat(without_hydra(rebuilt.config))), *drifts(then, now)]


def run_again(hydra: Hydra, rebuilt: Rebuilt) -> Result:
    """Run a record's experiment, under a record of its own that is linked with the first."""
    record = rebuilt.record
    rebuilt.store.connect()
    task = partial(
        run_alone,
        run_tags={tags.RERUN_OF: record.run_id},
        overrides=rebuilt.overrides,
        choices=rebuilt.choices,
        trial=_stopping_with(record) if record.state == "pruned" else None,
    )
    result: Result = run_single(hydra, rebuilt.config, task)
    if record.experiment is not None:
        logged.link(rebuilt.store, record.run_id, result.run_id)
    return result


def verdict_on(
    rebuilt: Rebuilt, result: Result, drift: Sequence[Drift], tolerance: float
) -> Verdict:
    """Compare a rerun's record with the first one's, and note the verdict on it."""
    now = logged.read(rebuilt.store, result.run_id)
    verdict = judge(rebuilt.record, now, drift, tolerance)
    logged.note_verdict(rebuilt.store, result.run_id, str(verdict))
    return verdict


def check_verifiable(record: LoggedRun) -> None:
    """Refuse to check a rerun against a run that has no result.

    Raises:
        ConfigError: where it failed, or is not over.
    """
    if record.state not in _ENDED:
        raise ConfigError(
            f"{record.place}: its state is {record.state or 'unknown'}; expected one of "
            f"{', '.join(_ENDED)} for a rerun to be checked against. Without --verify it is run."
        )


def check_no_drift(drift: Sequence[Drift]) -> None:
    """Refuse a rerun that is not made with what the run was made with.

    Raises:
        ConfigError: naming what is different or cannot be known.
    """
    others = [one for one in drift if one.state != "same"]
    if others:
        raise ConfigError(
            f"--strict: {listing(one.what for one in others)} not the same as in the record; "
            "nothing was run."
        )


def _stopping_with(record: LoggedRun) -> Trial:
    """Return what ends a rerun after as many evaluations as the record has."""
    left = len(record.histories.get("val/loss", {}))

    def report(_: float, __: float) -> GoesOn:
        nonlocal left
        left -= 1
        return "continue" if left > 0 else "prune"

    return Trial(is_best=lambda _: False, report=report, check_time=lambda: None)


def _set(tree: dict[str, Any], override: str) -> None:
    """Set a value that an override gives, in Hydra's grammar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with plain_errors():
        (parsed,) = OverridesParser.create().parse_overrides([override])
        if parsed.is_delete() or parsed.is_sweep_override():
            raise ConfigError(f"{override}: expected key=value, with one value.")
        *groups, name = parsed.key_or_group.split(".")
        node: Any = tree
        for group in groups:
            node = node.setdefault(group, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ConfigError(f"{override}: there is no group of keys {'.'.join(groups)}.")
        node[name] = parsed.value()


def _validated(tree: Mapping[str, Any], place: str) -> Experiment:
    from omegaconf import OmegaConf

    try:
        return validate(OmegaConf.create(dict(tree)))
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _texts(content: Any) -> dict[str, str]:
    known = content if isinstance(content, Mapping) else {}
    return {str(group): str(option) for group, option in known.items()}
