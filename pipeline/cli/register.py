"""``register``: name a run's model in MLflow's registry."""

from __future__ import annotations

import argparse
import shlex

from pipeline.cli.common import RUN_ID, STORE, Verbs, add_overrides
from pipeline.common.secrets import masked, masked_override
from pipeline.common.text import say
from pipeline.jobs.place import store_at


def add(verbs: Verbs) -> None:
    """Add ``register``."""
    verb = verbs.add_parser(
        "register",
        help="register a run's model in the MLflow model registry",
        description="Register a run's model as the next version of NAME. A search no longer "
        "deletes a registered model when it finds a better trial.",
    )
    verb.add_argument("run_id", metavar="RUN_ID", help=RUN_ID)
    verb.add_argument("name", metavar="NAME", help="name of the model, without /, : or @")
    add_overrides(verb, STORE)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from pipeline.tracking.registry import register

    store = store_at(options.overrides)
    made = register(store, options.run_id, options.name)
    where = shlex.quote(f"MLFLOW_TRACKING_URI={masked(store.uri)}")
    say(f"registered  {made.name}, version {made.version}")
    serve = f"env {where} mlflow models serve -m {shlex.quote(made.uri)} -p 5001"
    say(f"serve       {serve} --env-manager local")
    here = "".join(f" {shlex.quote(masked_override(word))}" for word in options.overrides)
    say(f"predict     tunewright predict {shlex.quote(made.uri)} --input IN --output OUT{here}")
    return 0
