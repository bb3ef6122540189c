"""``serve-tuning``: OpenAI's fine-tuning interface on this machine."""

from __future__ import annotations

import argparse
import os
from ipaddress import ip_address

from pipeline.cli.common import Verbs, add_overrides, check_port
from pipeline.common.errors import ConfigError
from pipeline.common.text import say

_KEYS = "TUNEWRIGHT_API_KEYS"  # variable with the keys that are let in, with commas between


def add(verbs: Verbs) -> None:
    """Add ``serve-tuning``."""
    verb = verbs.add_parser(
        "serve-tuning",
        help="serve OpenAI's fine-tuning interface: files, jobs, models, chat",
        description="Serve the interface of OpenAI's fine-tuning. A job is a run, recorded in "
        "MLflow; jobs that a stop cuts off go on with the next server in the same folder. Each API "
        f"key is an account of its own; {_KEYS}=KEY,KEY lets only these in.",
    )
    verb.add_argument("--host", default="127.0.0.1", help="address; default %(default)s")
    verb.add_argument("--port", type=int, default=8001, help="default %(default)s")
    verb.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="jobs at a time; default %(default)s"
    )
    add_overrides(verb, "key=value of all jobs: adapter=lora, tracking.dir=…")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    keys = [key.strip() for key in os.environ.get(_KEYS, "").split(",") if key.strip()]
    if not keys and not _is_loopback(options.host):
        raise ConfigError(
            f"--host {options.host}: others can reach it, so it needs keys; set {_KEYS} to those "
            "that are let in, with commas between, or leave --host out."
        )
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: expected 1 or more.")
    try:
        import python_multipart  # noqa: F401  # that uploads are read with
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"serve-tuning needs {error.name}: pip install 'tunewright[serve]'."
        ) from error
    from pipeline.hosting.app import make_app
    from pipeline.hosting.service import Service

    check_port(options.host, options.port)
    with Service(options.overrides, slots=options.jobs, keys=keys) as service:
        say(f"OpenAI's fine-tuning interface on http://{options.host}:{options.port}/v1")
        uvicorn.run(make_app(service), host=options.host, port=options.port, log_level="warning")
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
