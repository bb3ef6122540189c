"""Types that several groups of the config use: bounded numbers, texts, files of packages."""

import json
import os
import re
from enum import Enum
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.common.errors import amount

STRICT = ConfigDict(extra="forbid")
COMBINATION = "combination"  # the type of our errors about two keys, which name both


class Access(Enum):
    """How the value of a key leads out of the config; `untrusted.check_values` finds those keys.

    It stands in the annotation of every such field of the schema.
    """

    FILE = "a file"
    FILES = "a file, a folder or a pattern"
    FOLDER = "a folder, which is read with all below it, or a name of the hub"
    SPLIT = "a split of the hub, a file or the like of other sources"
    IN_PACKAGE = "a file, by its path in a distribution"
    SERVICE = "a service, which gets rows and a key, and is paid"


def conflict(message: str) -> PydanticCustomError:
    """Return the error of keys that do not fit together."""
    return PydanticCustomError(COMBINATION, message)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):  # which Python treats as 0 and 1
        raise ValueError("Input should be a valid number")
    return value


def _revision(value: Any) -> Any:
    if isinstance(value, str) and _NO_REVISION.search(value):
        raise ValueError("Input should be a branch, tag or commit, in which git allows no '..'")
    return value


_NO_REVISION = re.compile(r"^/|\.\.|[\\\s~^:?*\[]")  # else it could name a file; as git has it


def is_steps(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number of steps, not a share or a number of epochs."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


Number = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, lt=2**31)]  # whole number of rows, steps or tokens
# Limits so generous that only a slip of the finger, or a record that means harm, is beyond them:
# what is beyond would take the machine's memory or processes before anything could refuse it.
_CORES = amount(os.cpu_count() or 1, "core")
Threads = Annotated[
    Count,
    Field(le=1024, description=f"this machine has {_CORES}; null takes those there are"),
]
BatchRows = Annotated[Count, Field(le=2**20)]  # rows in memory at once
MOST_TOKENS = 2**20
Tokens = Annotated[Count, Field(le=MOST_TOKENS)]  # of one text
Few = Annotated[Count, Field(le=1000)]  # of what is kept, or computed, each at full size
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Share = Annotated[Number, Field(gt=0, lt=1)]  # a part of the whole, both ends excluded
NonNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Text = Annotated[str, Field(strict=True, min_length=1)]
FileName = Annotated[Text, Access.FILE]
FolderOrName = Annotated[Text, Access.FOLDER]
Revision = Annotated[str, BeforeValidator(_revision)]


@dataclass(config=STRICT, frozen=True)
class EmbeddedFile:
    """A file inside an installed distribution, read as a file: the package's code never runs."""

    distribution: Text  # the name on PyPI
    path: Annotated[Text, Access.IN_PACKAGE]  # the file, relative to site-packages
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of the file's bytes


class Settings(dict[str, Any]):
    """A mapping of a library's own keys, usable in a frozen config."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True, default=str))
