"""A run made again from its record alone, and checked against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os.path import expanduser, isabs
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.analysis.preflight import check_inputs, check_settings
from pipeline.common.contract import PruningDecision
from pipeline.common.errors import ConfigError, listing
from pipeline.common.text import cut
from pipeline.config.compose import (
    changing,
    chosen,
    compose,
    key_of,
    run_single,
    without_hydra,
)
from pipeline.config.experiment import Experiment, validate
from pipeline.config.flat import as_tree, flat, flatten
from pipeline.config.hydra_parts import Hydra
from pipeline.config.migrations import migrated_overrides
from pipeline.config.refusals import plain_errors
from pipeline.config.tokenizer import KEY, tokenizer_of
from pipeline.config.untrusted import CODE, check_values
from pipeline.jobs.single import Command, run_alone
from pipeline.jobs.soup import make_again, recipe_of
from pipeline.tracking import Store, logged, open_store, tags
from pipeline.tracking.dead_runs import connect_and_close_dead
from pipeline.tracking.drift import Drift, config_drift, drifts
from pipeline.tracking.logged import LoggedRun
from pipeline.tracking.provenance import environment
from pipeline.tracking.signature import Vouched, verify
from pipeline.tracking.verdict import RerunVerdict, judge
from pipeline.training.outcome import Result, Trial
from pipeline.training.prepare import inputs

_ENDED = ("complete", "pruned")  # what a rerun can be checked against
_OWN = ("tracking", "hydra")  # what is the user's own in every rerun


@dataclass(frozen=True)
class Rebuilt:
    """A record's experiment, ready to be run here."""

    record: LoggedRun
    config: DictConfig  # with the hydra node
    experiment: Experiment
    store: Store
    command: Command  # what the config was made with, in the record and here


def rebuild(
    hydra: Hydra, source: str, overrides: Sequence[str], allowed: Sequence[Path]
) -> Rebuilt:
    """Make an experiment of a record, changed as the user says; nothing is run or written.

    Args:
        hydra: set up by `hydra_app`.
        source: a run's id, or a folder that was exported.
        overrides: the user's: where the store is, and what is to be otherwise than in the record.
        allowed: folders besides the working folder that the record may name.

    Raises:
        TunewrightError: for a record that is not there or not whole, that names code or files it
            may not and that no signature vouches for, or that does not fit the schema.
    """
    own = [o for o in overrides if is_own(o)]
    changes = [o for o in overrides if o not in own]
    store = open_store(validate(without_hydra(compose(hydra, own))).tracking)
    record = logged.read(store, source)
    place = f"{record.place}, config.yaml"
    tree = record.tree()
    vouched = verify(record.run_id, record.config, record.signature)
    known = [*map(key_of, changes), *_vouched_keys(tree, vouched)]
    groups = [o for o in changes if isinstance(tree.get(key_of(o)), Mapping)]
    config = compose(hydra, [*own, *groups])
    fresh = as_tree(without_hydra(config))
    for group in map(key_of, groups):
        tree[group] = fresh[group]
    for override in changes:
        if override not in groups:
            _set(tree, override)
    if KEY in map(key_of, changes):
        tree["model"]["tokenizer"] = tokenizer_of(tree["model"]["tokenizer"])
    tree["tracking"] = fresh["tracking"]
    if record.experiment and not any(key_of(o) == "tracking.experiment" for o in own):
        if "${" in record.experiment:
            raise ConfigError(
                f"{record.place}: its experiment is called {record.experiment}, which Hydra would "
                "interpolate; give tracking.experiment=… yourself."
            )
        tree["tracking"]["experiment"] = record.experiment
    try:
        check_values(tree, allowed, known, place)
    except ConfigError as error:
        raise ConfigError(f"{error} {vouched.reason}".rstrip()) from error
    try:
        experiment = validate(OmegaConf.create(tree))
    except ConfigError as error:
        where = f"{place}, with your changes" if changes else place
        raise ConfigError(f"{where}: {error}") from error
    with changing(config):
        for key in [key for key in config if key != "hydra"]:
            del config[key]
        for key, value in tree.items():
            config[key] = value
    command = _command(record.provenance, changes, groups)
    return Rebuilt(record, config, experiment, open_store(experiment.tracking), command)


def _vouched_keys(tree: Mapping[str, Any], vouched: Vouched) -> list[str]:
    """Return the keys whose values need not be allowed, since the user ran them before."""
    if not vouched.own:
        return []
    values = {key: value for key, value in flatten(tree).items() if key not in CODE}
    return [key for key, value in values.items() if vouched.here or _is_same_anywhere(value)]


def _is_same_anywhere(value: Any) -> bool:
    """Whether a value, if it names files, names the same ones in every working folder."""
    if isinstance(value, list):
        return all(map(_is_same_anywhere, value))
    return isinstance(value, str) and ("://" in value or isabs(expanduser(value)))


def is_own(override: str) -> bool:
    """Whether an override says where the record goes and how the command runs, not what it runs."""
    return key_of(override).partition(".")[0] in _OWN


def drift_of(rebuilt: Rebuilt) -> list[Drift]:
    """Compare what the record was made with and what is here.

    Raises:
        TunewrightError: for data, a model or settings that cannot work here.
    """
    check_settings(rebuilt.experiment)
    check_inputs(rebuilt.experiment)
    then = {**rebuilt.record.provenance, **rebuilt.record.inputs}
    now = {**environment(), **inputs(rebuilt.experiment)}
    config = config_drift(flatten(rebuilt.record.tree()), flat(without_hydra(rebuilt.config)))
    return [config, *drifts(then, now)]


def run_again(hydra: Hydra, rebuilt: Rebuilt) -> Result:
    """Run a record's experiment, under a record of its own that names the first.

    Raises:
        TunewrightError: as `pipeline.run.run` does, and for a store that cannot be reached.
    """
    connect_and_close_dead(rebuilt.store)
    noted = {tags.RERUN_OF: rebuilt.record.run_id}
    if recipe := recipe_of(rebuilt.record):
        return make_again(hydra, rebuilt.config, rebuilt.command, recipe, noted)
    task = partial(
        run_alone,
        run_tags=noted,
        command=rebuilt.command,
        trial=trial_of(rebuilt.record),
    )
    result: Result = run_single(hydra, rebuilt.config, task)
    return result


def verdict_on(record: LoggedRun, store: Store, rerun_id: str, tolerance: float) -> RerunVerdict:
    """Compare a rerun's record with the one that it was made from, note it, and link the two.

    Raises:
        TrackingError: where the rerun's record is not whole.
    """
    now = logged.read(store, rerun_id)
    config = config_drift(flatten(record.tree()), flatten(now.tree()))
    others = drifts(*({**run.provenance, **run.inputs} for run in (record, now)))
    verdict = judge(record, now, [config, *others], tolerance)
    logged.note_verdict(store, record, rerun_id, str(verdict))
    return verdict


def trial_of(record: LoggedRun | None) -> Trial | None:
    """Return what ends the rerun of a pruned trial after as many evaluations; None for others."""
    if record is None or record.state != "pruned":
        return None
    losses = (record.histories.get(f"{split}/loss", {}) for split in ("early", "val"))
    left = sum(map(len, losses))

    def report(_: float, __: float) -> PruningDecision:
        nonlocal left
        left -= 1
        return "continue" if left > 0 else "prune"

    return Trial(is_kept=lambda _: False, report=report, check=lambda: None)


def check_verifiable(record: LoggedRun) -> None:
    """Refuse to check a rerun against a run that has no result.

    Raises:
        ConfigError: where it failed, or is not over.
    """
    if not has_result(record):
        raise ConfigError(
            f"{record.place}: its state is {record.state or 'unknown'}; expected one of "
            f"{', '.join(_ENDED)} for a rerun to be checked against. Without --verify it is run."
        )


def has_result(record: LoggedRun) -> bool:
    """Whether a rerun can be checked against a run: it came to an end of its own."""
    return record.state in _ENDED


def check_no_drift(drift: Sequence[Drift]) -> None:
    """Refuse a rerun that is not made with what the run was made with.

    Raises:
        ConfigError: naming what is different or cannot be known.
    """
    # The config differs by what the user has just said, which is no drift.
    others = [one for one in drift if one.state != "same" and one.what != "config"]
    if others:
        raise ConfigError(
            f"--strict: {listing(one.what for one in others)} not the same as in the record; "
            "nothing was run."
        )


def _set(tree: dict[str, Any], override: str) -> None:
    """Set a value that an override gives, in Hydra's grammar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with plain_errors():
        (parsed,) = OverridesParser.create().parse_overrides([override])
        if parsed.is_delete() or parsed.is_sweep_override():
            raise ConfigError(f"{cut(override)}: expected key=value, with one value.")
        *groups, name = parsed.key_or_group.split(".")
        node: Any = tree
        for group in groups:
            node = node.setdefault(group, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ConfigError(f"{override}: there is no group of keys {'.'.join(groups)}.")
        node[name] = parsed.value()


def _command(
    provenance: Mapping[str, Any], changes: Sequence[str], groups: Sequence[str]
) -> Command:
    """Return what a record says of its command line, with what is changed here.

    A record's texts are kept as texts: in Hydra's config they could be interpolated.
    """
    said, made = provenance.get("overrides"), provenance.get("choices")
    overrides = [str(text) for text in said] if isinstance(said, list) else []
    choices = dict(made) if isinstance(made, Mapping) else {}
    choices |= chosen(groups)
    return Command(
        [*migrated_overrides(overrides), *changes], {str(k): str(v) for k, v in choices.items()}
    )
