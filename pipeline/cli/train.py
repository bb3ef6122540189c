"""The verbs that train: train, sweep, resume, retry."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from pipeline.cli.common import (
    DRY_RUN,
    RUN_ID,
    STORE,
    STUDY,
    STUDY_STORE,
    add_allow,
    composed,
    goes_on,
    names_and_overrides,
    tracking_of,
)

if TYPE_CHECKING:
    from pipeline.cli.common import Verbs
    from pipeline.jobs.trial import ExperimentTask

SAME_COMMAND = "The same command goes on."


def add_train(verbs: Verbs) -> None:
    """Add ``train``."""
    verb = verbs.add_parser("train", help="fine-tune once, or with -m every combination of values")
    verb.add_argument("overrides", nargs="*", help="key=value, group=option")
    way = verb.add_mutually_exclusive_group()
    way.add_argument("-m", "--multirun", action="store_true", help="search over the given values")
    way.add_argument("--cfg", action="store_true", help="print the composed config and stop")
    way.add_argument(
        "--resume",
        action="store_true",
        help="go on with this very run where it was cut off; begin where there is none such",
    )
    verb.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    verb.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    if options.multirun:
        return _multirun("sweep", _as_asked(options))
    return _run_once(options)


def _run_once(options: argparse.Namespace) -> int:
    from pipeline.analysis.preflight import check_inputs, check_settings
    from pipeline.config.compose import compose, hydra_app, run_single, without_hydra
    from pipeline.config.schema import validate
    from pipeline.tracking import open_store

    with hydra_app("train") as hydra:
        config = compose(hydra, options.overrides)
        experiment = validate(without_hydra(config))
        if options.cfg:
            from omegaconf import OmegaConf

            print(OmegaConf.to_yaml(without_hydra(config)), end="")
            return 0
        check_settings(experiment)
        check_inputs(experiment)  # refuses bad data and models before anything is written
        if options.dry_run:
            print("dry run: the run is valid; nothing was run or written.")
            return 0
        store = open_store(experiment.tracking)
        store.connect()

        from pipeline.cli.console import run_on_console
        from pipeline.jobs.resume import find_cut_off, resume
        from pipeline.jobs.single import run_alone

        found = find_cut_off(store, without_hydra(config)) if options.resume else None
        task = partial(resume, run_id=found) if found else run_alone
        has_states = experiment.training.checkpoint_every is not None
        how = "`tunewright train --resume …` goes on." if has_states else ""
        with goes_on(how), run_on_console() as say_result:
            say_result(run_single(hydra, config, task), experiment)
    return 0


def add_sweep(verbs: Verbs) -> None:
    """Add ``sweep``."""
    verb = verbs.add_parser("sweep", help="run a named search of sweeps/, or continue it")
    verb.add_argument("name", help="a file in sweeps/, without .yaml")
    verb.add_argument("overrides", nargs="*", help="key=value, group=option, key=values to search")
    verb.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    verb.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from pipeline.search.space.named import as_overrides, load_sweep

    return _multirun(options.name, as_overrides(load_sweep(options.name), _as_asked(options)))


def add_plan(verbs: Verbs) -> None:
    """Add ``plan``."""
    verb = verbs.add_parser(
        "plan",
        help="forecast what a search costs: time, disk, energy and money; run nothing",
        description="Check every job of a search as --dry-run does, time a few steps on this "
        "machine, and say what the whole costs. hydra.sweeper.prices has the prices.",
    )
    verb.add_argument(
        "overrides", nargs="+", metavar="NAME", help="a file in sweeps/, or key=values to search"
    )
    verb.set_defaults(run=_plan)


def _plan(options: argparse.Namespace) -> int:
    from pipeline.search.space.named import as_overrides, load_sweep

    names, given = names_and_overrides(options.overrides)
    given.append("hydra.sweeper.dry_run=plan")
    if not names:
        return _multirun("sweep", given)
    return _multirun(names[0], as_overrides(load_sweep(names[0]), given))


def add_confirm(verbs: Verbs) -> None:
    """Add ``confirm``."""
    verb = verbs.add_parser(
        "confirm",
        help="retrain a study's winner on fresh seeds, test it, and say whether it is better",
        description="Train the best trial's config and the default one on seeds that the search "
        "did not use, read the test split once for each, and compare them: mean and spread, the "
        "selection gap, a paired bootstrap and McNemar's test against the default config and "
        "against baselines without training.",
    )
    verb.add_argument("study", help=STUDY)
    verb.add_argument("overrides", nargs="*", help=STUDY_STORE)
    verb.add_argument("--seeds", type=int, default=5, help="how many; default 5")
    verb.set_defaults(run=_confirm)


def _confirm(options: argparse.Namespace) -> int:
    return _retrain(options.study, options.seeds, options.overrides)


def _retrain(study: str, seeds: int, given: list[str]) -> int:
    from pipeline.jobs import confirm
    from pipeline.tracking import open_store

    config = composed(given)
    store, storage = open_store(tracking_of(config)), config.hydra.sweeper.storage
    confirmation = confirm.plan(store, study, storage, seeds)
    for search in (confirmation.winner, confirmation.default):
        overrides = [*search.overrides, *given]
        _multirun(search.name, overrides, confirm.Retraining(search.name, overrides))
    alone = [o for o in confirmation.default.overrides if not o.startswith(("seed=", "hydra"))]
    for line in confirm.conclude(confirmation, composed([*alone, *given])).lines():
        print(line)
    return 0


def add_resume(verbs: Verbs) -> None:
    """Add ``resume``."""
    verb = verbs.add_parser(
        "resume", help="go on with a run that was cut off, from its last checkpoint"
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    verb.add_argument("overrides", nargs="*", help=STORE)
    add_allow(verb)
    verb.set_defaults(run=_resume)


def _resume(options: argparse.Namespace) -> int:
    from pipeline.cli.console import run_on_console
    from pipeline.config.compose import hydra_app, run_single
    from pipeline.jobs.rerun import has_result, verdict_on
    from pipeline.jobs.resume import rebuild_cut_off, resume
    from pipeline.tracking.logged import origin_of
    from pipeline.tracking.verdict import TOLERANCE

    with hydra_app("train") as hydra:
        rebuilt, drift = rebuild_cut_off(hydra, options.run_id, options.overrides, options.allow)
        run_id, store = rebuilt.record.run_id, rebuilt.store
        origin = origin_of(store, run_id)
        for line in drift:
            print(f"since it began: {line}")
        with goes_on(SAME_COMMAND), run_on_console() as say_result:
            task = partial(resume, run_id=run_id)
            say_result(run_single(hydra, rebuilt.config, task), rebuilt.experiment)
        if origin is not None and has_result(origin):
            print(f"verdict: {verdict_on(origin, store, run_id, TOLERANCE)}")
    return 0


def add_retry(verbs: Verbs) -> None:
    """Add ``retry``."""
    verb = verbs.add_parser("retry", help="run a study's failed trials again")
    verb.add_argument("study", help=STUDY)
    verb.add_argument("overrides", nargs="*", help=STUDY_STORE)
    verb.add_argument(
        "--all", action="store_true", help="also those out of memory, diverged or out of time"
    )
    verb.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    verb.set_defaults(run=_retry)


def _retry(options: argparse.Namespace) -> int:
    from pipeline.jobs.retry import again
    from pipeline.tracking import open_store

    given = _as_asked(options)
    config = composed(given)
    store, sweeper = open_store(tracking_of(config)), config.hydra.sweeper
    is_dry = bool(sweeper.dry_run)
    found = again(store, options.study, sweeper.storage, given, every=options.all, dry_run=is_dry)
    _multirun(found.job, found.overrides, found.task)
    for line in found.lines if is_dry else ():
        print(line)
    return 0


def _as_asked(options: argparse.Namespace) -> list[str]:
    return [*options.overrides, *(["hydra.sweeper.dry_run=true"] if options.dry_run else [])]


def _multirun(name: str, overrides: list[str], task: ExperimentTask | None = None) -> int:
    from pipeline.common.garbage import uncollected
    from pipeline.config.compose import CONFIG_NAME, compose, hydra_app
    from pipeline.search.workers.processes import warm_up
    from pipeline.search.workers.sizing import may_be_started

    if may_be_started(overrides):  # first of all: it imports beside this process
        warm_up()
    with hydra_app(name) as hydra:
        with uncollected():
            config = compose(hydra, overrides, multirun=True)
            from pipeline.jobs.trial import ExperimentTask

        task = task or ExperimentTask(name, overrides)
        with goes_on("" if config.hydra.sweeper.get("dry_run") else SAME_COMMAND):
            hydra.multirun(CONFIG_NAME, task, overrides)
    seeds = int(config.hydra.sweeper.get("confirm") or 0)
    if seeds and task.study_name:
        where = ("tracking.", "hydra.sweeper.storage", "hydra.sweeper.n_jobs")
        return _retrain(task.study_name, seeds, [o for o in overrides if o.startswith(where)])
    return 0
