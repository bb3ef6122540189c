"""``soup``: average the weights of a study's best models."""

from __future__ import annotations

import argparse

from pipeline.cli.common import STUDY_STORE, Verbs, add_allow, add_study
from pipeline.common.text import say


def add(verbs: Verbs) -> None:
    """Add ``soup``."""
    verb = verbs.add_parser(
        "soup",
        help="average the weights of a study's best models and test the result",
        description="Average the kept models of a study (tracking.keep_models) greedily: the best "
        "one first, each next one where the validation score does not fall. The soup is tested "
        "beside the winner on the test split and logged as a run that can be served and rerun.",
    )
    add_study(verb, STUDY_STORE)
    add_allow(verb)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.cli.console import run_on_console
    from pipeline.config.compose import hydra_app, key_of
    from pipeline.jobs import rerun, soup
    from pipeline.jobs.place import composed, store_of
    from pipeline.tracking import tags
    from pipeline.tracking.runs import run_of

    config = composed(options.overrides)
    store = store_of(config)
    kept = soup.kept_models(store, options.study, config.hydra.sweeper.storage)
    with hydra_app("soup") as hydra:
        given = [o for o in options.overrides if not key_of(o).startswith("hydra")]
        rebuilt = rerun.rebuild(hydra, kept.best, [*given, "evaluation.test=true"], options.allow)
        with run_on_console() as say_result:
            result = soup.make(hydra, rebuilt.config, rebuilt.command, kept)
            if result is None:
                return 0
            say_result(result, rebuilt.experiment)
    say(run_of(store, result.run_id).data.tags[tags.SOUP])
    return 0
