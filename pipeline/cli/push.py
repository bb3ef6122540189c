"""``push``: a run's model to the Hugging Face hub, with a card made from its record."""

from __future__ import annotations

import argparse

from pipeline.cli.common import RUN_ID, STORE, Verbs, add_overrides
from pipeline.common.text import say
from pipeline.jobs.place import store_at


def add(verbs: Verbs) -> None:
    """Add ``push``."""
    verb = verbs.add_parser(
        "push",
        help="publish a run's model on the Hugging Face hub, with a model card",
        description="Write a kept model, in transformers' format, and a card made from its record "
        "to a repository of the hub, which is made, private, where it is not there. HF_ENDPOINT "
        "names another hub, HF_TOKEN or `hf auth login` the account.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    verb.add_argument("target", metavar="hub:OWNER/NAME", help="repository of the hub")
    verb.add_argument("--public", action="store_true", help="let everybody read a new repository")
    verb.add_argument(
        "--force", action="store_true", help="replace files of a repository that exists"
    )
    verb.add_argument("--card", action="store_true", help="only print the card")
    add_overrides(verb, STORE)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.serving.hub import push, repository_of
    from pipeline.tracking.logged import find_run
    from pipeline.tracking.mlmodel import weights_of
    from pipeline.tracking.model_card import model_card
    from pipeline.tracking.registry import model_folder

    repository, store = repository_of(options.target), store_at(options.overrides)
    run = find_run(store, options.run_id)
    with model_folder(store, options.run_id) as folder:
        card = model_card(store, run, folder, repository)
        if options.card:
            print(card, end="")
            return 0
        files = weights_of(folder)
        made = push(files, card, repository, public=options.public, force=options.force)
    say(f"pushed  {made}")
    return 0
