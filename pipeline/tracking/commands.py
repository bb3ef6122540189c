"""How a search was last started, as its parent run keeps it: whose command line that is, and where.

Whoever can write to the store can write another one. So what is not signed is refused where it does
more than choose values (`pipeline.config.untrusted_command`), or names a storage out of the store.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError, TrackingError
from pipeline.common.secrets import masked, masked_override
from pipeline.common.text import printable
from pipeline.config.compose import key_of
from pipeline.config.flags import flags, split_flags
from pipeline.config.migrations import migrated_overrides
from pipeline.config.untrusted import read_json
from pipeline.config.untrusted_command import check_command
from pipeline.tracking import tags
from pipeline.tracking.location import database_file
from pipeline.tracking.signature import SIGNATURE_FILE, Vouched, sign, verify
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_STORAGE = "hydra.sweeper.storage"
# What is signed together; a store that is moved has a new address, which it signs no more.
_COMMAND, _WHERE = (tags.JOB, tags.OVERRIDES), (tags.STORAGE,)
_JOB = re.compile(r"[\w.-]+")  # it is in names of files


@dataclass(frozen=True)
class Command:
    """The command line of a search."""

    job: str  # its name
    overrides: list[str]
    foreign: list[str]  # those of the overrides that nobody vouches for
    flags: list[str]  # where its config is read, as Hydra's flags say
    place: str  # for messages


def notes(study: str, storage: str, job: str, overrides: Sequence[str]) -> dict[str, str]:
    """Return the notes by which `command_of` knows how a search is run again.

    The storage has a note of its own, and what holds a secret is to be given again.
    """
    kept = [o for o in overrides if key_of(o) != _STORAGE and masked_override(o) == o]
    text = json.dumps([*flags(), *kept], ensure_ascii=False)
    if not job or len(text) > tags.MOST_CHARACTERS:
        job, text = "", "[]"  # not that of an earlier start
    found = {tags.STORAGE: masked(storage), tags.JOB: job, tags.OVERRIDES: text}
    for signature, signed in ((tags.SIGNATURE, _COMMAND), (tags.STORAGE_SIGNATURE, _WHERE)):
        found[signature] = sign(study, _text(found, signed)).get(SIGNATURE_FILE, "")
    return found


def command_of(study: Run, typed: Collection[str], given: Sequence[str] = ()) -> Command:
    """Return how a study's search was last started, but for what is given now.

    Args:
        study: its parent run.
        typed: overrides that the user gave in this very process.
        given: overrides that replace those of the same keys.

    Raises:
        TrackingError: where it was not kept.
        ConfigError: where nobody vouches for it, and it does more than choose values; where its
            config is read elsewhere than that of this command.
    """
    noted = study.data.tags
    name = noted[tags.STUDY]
    place = f"study {name}, its command line"
    if not noted.get(tags.JOB):
        raise TrackingError(
            f"{name}: its parent run does not say with which command line it was "
            "begun. Give that command once more: from then on it is kept, unless it is longer "
            f"than {tags.MOST_CHARACTERS} characters."
        )
    logged = read_json(noted[tags.OVERRIDES].encode(), place)
    if not isinstance(logged, list) or not _JOB.fullmatch(noted[tags.JOB]):
        raise TrackingError(f"{place}: expected a job's name and a list of overrides.")
    replaced = {key_of(override) for override in given}
    where, said = split_flags([str(word) for word in logged])
    now = migrated_overrides(said)
    overrides = [override for override in now if key_of(override) not in replaced]
    is_own = _vouched(study, tags.SIGNATURE, _COMMAND).here
    _check_flags(where, place, is_own=is_own)
    own = set(overrides if is_own else migrated_overrides(list(typed)))
    foreign = [override for override in overrides if override not in own]
    check_command(foreign, place)
    return Command(noted[tags.JOB], overrides, foreign, where, place)


def _check_flags(where: Sequence[str], place: str, *, is_own: bool) -> None:
    """Refuse to compose other configs than those of the search, or a stranger's."""
    here = flags()
    if where == here or (is_own and not here):
        return
    then, now = (printable(shlex.join(words)) or "no flags" for words in (where, here))
    raise ConfigError(
        f"{place}: its config was read with {then}, that of this command with {now}; expected the "
        "same. Give the flags of the search."
    )


def storage_of(store: Store, study: Run, given: str | None = None) -> str:
    """Return where a study's trials are kept: as given, or as its parent run says.

    Raises:
        TrackingError: where that is not in the store, and this account has not put it there.
    """
    noted = str(study.data.tags.get(tags.STORAGE, ""))
    path = database_file(noted) or (None if "://" in noted else Path(noted))
    inside = path and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(store.dir))
    if given or not noted or inside or _vouched(study, tags.STORAGE_SIGNATURE, _WHERE).own:
        return given or noted
    shown = printable(noted)
    raise TrackingError(
        f"{study.data.tags[tags.STUDY]}: its parent run says that its trials are in {shown}, "
        "outside this store, and your account did not sign that. If you trust it, give "
        f"{_STORAGE}={shown}"
    )


def _vouched(study: Run, signature: str, signed: Sequence[str]) -> Vouched:
    noted = study.data.tags
    text = _text(noted, signed).encode()
    return verify(noted[tags.STUDY], text, noted.get(signature, "").encode())


def _text(noted: Mapping[str, str], signed: Sequence[str]) -> str:
    return json.dumps([noted.get(key, "") for key in signed])
