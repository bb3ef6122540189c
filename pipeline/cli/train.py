"""``train``: fine-tune once, or search over given values."""

from __future__ import annotations

import argparse

from pipeline.cli.common import DRY_RUN, Verbs, add_overrides, as_asked
from pipeline.cli.hydra_flags import add_shown, check_shown, show


def add(verbs: Verbs) -> None:
    """Add ``train``."""
    verb = verbs.add_parser(
        "train",
        help="fine-tune once; with -m, search over the given values",
        description="Fine-tune a model from one composed config and log it to MLflow. With -m, "
        "keys that take several values span a search. Every verb that composes takes -cn, -cp and "
        "-cd.",
    )
    add_overrides(verb, "key=value, group=option; with -m key=a,b", shown=True)
    way = add_shown(verb)
    way.add_argument(
        "-m", "--multirun", action="store_true", help="search over keys with several values"
    )
    way.add_argument(
        "--resume", action="store_true", help="resume this config's interrupted run, else start"
    )
    verb.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.api.experiments import compose
    from pipeline.api.studies import search
    from pipeline.config.compose import key_of
    from pipeline.config.flat import check_read

    check_shown(options)
    if options.multirun:
        search([], as_asked(options))
        return 0
    if options.cfg or options.info:
        show(options)
        return 0
    experiment = compose(options.overrides)
    if experiment.settings.hosted:
        check_read(map(key_of, options.overrides), experiment.settings.hosted.name)
    if options.dry_run:
        from pipeline.providers.plan import plan
        from pipeline.training.starting_rate import rate_notes

        experiment.check()
        if experiment.settings.hosted:
            print(f"forecast: {plan(experiment.settings).cost}")
        else:
            for note in rate_notes(experiment.settings):
                print(note)
        print("dry run: the config is valid; nothing was run or written.")
        return 0
    from pipeline.cli.console import say_result

    say_result(experiment.carry_out(resume=options.resume), experiment.settings)
    return 0
