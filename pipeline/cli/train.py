"""``train``: fine-tune once, or search over given values."""

from __future__ import annotations

import argparse
from functools import partial

from pipeline.cli.common import DRY_RUN, Verbs, add_overrides, as_asked
from pipeline.cli.multirun import multirun


def add(verbs: Verbs) -> None:
    """Add ``train``."""
    verb = verbs.add_parser(
        "train",
        help="fine-tune once; with -m, search over the given values",
        description="Fine-tune a model from one composed config and log it to MLflow. With -m, "
        "keys that take several values span a search. --cfg prints the whole config.",
    )
    add_overrides(verb, "key=value, group=option; with -m key=a,b")
    way = verb.add_mutually_exclusive_group()
    way.add_argument(
        "-m", "--multirun", action="store_true", help="search over keys with several values"
    )
    way.add_argument("--cfg", action="store_true", help="print the composed config and exit")
    way.add_argument(
        "--resume", action="store_true", help="resume this config's interrupted run, else start"
    )
    verb.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.multirun:
        return multirun("sweep", as_asked(options))
    from pipeline.analysis.preflight import check_inputs, check_settings
    from pipeline.config.compose import compose, hydra_app, run_single, without_hydra
    from pipeline.config.experiment import validate
    from pipeline.tracking import open_store
    from pipeline.tracking.dead_runs import connect_and_close_dead

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
            print("dry run: the config is valid; nothing was run or written.")
            return 0
        store = open_store(experiment.tracking)
        connect_and_close_dead(store)

        from pipeline.cli.console import run_on_console
        from pipeline.jobs.resume import find_cut_off, resume
        from pipeline.jobs.single import run_alone

        found = find_cut_off(store, without_hydra(config)) if options.resume else None
        task = partial(resume, run_id=found) if found else run_alone
        with run_on_console() as say_result:
            say_result(run_single(hydra, config, task), experiment)
    return 0
