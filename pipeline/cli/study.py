"""``study``: steer a search that runs, from another terminal."""

from __future__ import annotations

import argparse

from pipeline.cli.common import STUDY, STUDY_STORE, Verbs, add_overrides, names_and_overrides
from pipeline.common.errors import ConfigError
from pipeline.common.text import say
from pipeline.jobs.place import composed, store_of

ACTIONS = ("stop", "stop-trial", "add")
DESCRIPTION = """\
Steer a search that runs, on any launcher and machine, through its study's storage.

stop               begin no further trial; the running ones finish. The search ends as if its
                   budget were spent, and its own command resumes it.
stop --now         end the running trials too, within seconds; resuming begins them again.
stop-trial N       end trial N within seconds, running or paused: it counts as pruned.
add key=value …    run this point next, one more than n_trials. Keys that are left out are chosen
                   by the sampler, or are those of the grid's next point that fits.
"""


def add(verbs: Verbs) -> None:
    """Add ``study``."""
    verb = verbs.add_parser(
        "study",
        help="steer a search that runs: stop it, stop a trial, add a point",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("study", help=STUDY)
    verb.add_argument("action", choices=ACTIONS, help=", ".join(ACTIONS))
    add_overrides(verb, f"N, or key=value …; {STUDY_STORE}", metavar="WORD")
    verb.add_argument("--now", action="store_true", help="stop: end the running trials too")
    verb.set_defaults(run=_run, words="studies", then=ACTIONS)


def _run(options: argparse.Namespace) -> int:
    from pipeline.jobs.steer import Steered, as_settings

    names, given = names_and_overrides(options.overrides)
    place = [o for o in given if o.startswith(("tracking.", "tracking=", "hydra."))]
    settings = [o for o in given if o not in place]
    action = options.action
    _check(action, names, settings, now=options.now)
    config = composed(place)
    steered = Steered.find(store_of(config), options.study, config.hydra.sweeper.storage)
    if action == "stop":
        say(steered.stop(now=options.now))
    elif action == "add":
        say(steered.add(as_settings(settings)))
    else:
        say(steered.stop_trial(int(names[0])))
    return 0


def _check(action: str, names: list[str], settings: list[str], *, now: bool) -> None:
    """Refuse words that an action does not take."""
    wanted = {"stop": 0, "stop-trial": 1, "add": 0}[action]
    number = action == "stop-trial" and len(names) == 1 and names[0].isdecimal()
    if len(names) != wanted or (wanted and not number) or (settings and action != "add"):
        expected = {"stop": "no more words", "stop-trial": "a trial's number"}
        found = " ".join([*names, *settings]) or "nothing"
        raise ConfigError(f"{action}: found {found}; expected {expected.get(action, 'key=value')}.")
    if now and action != "stop":
        raise ConfigError(f"--now: {action} takes effect at once anyway; it is an option of stop.")
