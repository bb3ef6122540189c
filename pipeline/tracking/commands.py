"""How a search was last started, as its parent run keeps it: whose command line that is, and where.

Whoever can write to the store can write another one. So what is not signed is refused where it does
more than choose values (`pipeline.config.untrusted_command`), or names a storage out of the store.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import TrackingError
from pipeline.common.secrets import masked, masked_override
from pipeline.common.text import printable
from pipeline.config.compose import key_of
from pipeline.config.migrations import migrated_overrides
from pipeline.config.untrusted import read_json
from pipeline.config.untrusted_command import check_command
from pipeline.tracking import tags
from pipeline.tracking.signature import SIGNATURE_FILE, Vouched, sign, verify
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_STORAGE = "hydra.sweeper.storage"
_JOB = re.compile(r"[\w.-]+")  # it is in names of files


@dataclass(frozen=True)
class Command:
    """The command line of a search."""

    job: str  # its name
    overrides: list[str]
    foreign: list[str]  # those of the overrides that nobody vouches for
    place: str  # for messages


def notes(study: str, storage: str, job: str, overrides: Sequence[str]) -> dict[str, str]:
    """Return the notes by which `command_of` knows how a search is run again.

    The storage has a note of its own, and what holds a secret is to be given again.
    """
    kept = [o for o in overrides if key_of(o) != _STORAGE and masked_override(o) == o]
    text = json.dumps(kept, ensure_ascii=False)
    if not job or len(text) > tags.MOST_CHARACTERS:
        job, text = "", "[]"  # not that of an earlier start
    found = {tags.STORAGE: masked(storage), tags.JOB: job, tags.OVERRIDES: text}
    return {**found, tags.SIGNATURE: sign(study, _signed(found)).get(SIGNATURE_FILE, "")}


def command_of(study: Run, known: Collection[str], given: Sequence[str] = ()) -> Command:
    """Return how a study's search was last started, but for what is given now.

    Args:
        study: its parent run.
        known: overrides that the user gave in this very process.
        given: overrides that replace those of the same keys.

    Raises:
        TrackingError: where it was not kept.
        ConfigError: where nobody vouches for it, and it does more than choose values.
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
    now = migrated_overrides([str(override) for override in logged])
    overrides = [override for override in now if key_of(override) not in replaced]
    foreign = [] if _vouched(study).here else [o for o in overrides if o not in known]
    check_command(foreign, place)
    return Command(noted[tags.JOB], overrides, foreign, place)


def storage_of(store: Store, study: Run, given: str | None = None) -> str:
    """Return where a study's trials are kept: as given, or as its parent run says.

    Raises:
        TrackingError: where that is not in the store, and this account has not put it there.
    """
    noted = str(study.data.tags.get(tags.STORAGE, ""))
    inside = Path(os.path.realpath(noted)).is_relative_to(os.path.realpath(store.dir))
    if given or not noted or ("://" not in noted and inside) or _vouched(study).own:
        return given or noted
    shown = printable(noted)
    raise TrackingError(
        f"{study.data.tags[tags.STUDY]}: its parent run says that its trials are in {shown}, "
        "outside this store, which your account did not write. If you trust it, give "
        f"{_STORAGE}={shown}"
    )


def _vouched(study: Run) -> Vouched:
    noted = study.data.tags
    signature = noted.get(tags.SIGNATURE, "").encode()
    return verify(noted[tags.STUDY], _signed(noted).encode(), signature)


def _signed(noted: dict[str, str]) -> str:
    return json.dumps([noted.get(key, "") for key in (tags.STORAGE, tags.JOB, tags.OVERRIDES)])
