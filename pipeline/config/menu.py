"""What there is to choose from: the files of conf/ and of the sweeper's groups, and of sweeps/."""

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from pipeline.config.flags import folders

SWEEPER = Path(__file__).parents[2] / "hydra_plugins" / "tunewright" / "conf"
# As a person calls them: the group, and how a file of it is chosen.
GROUPS = {
    "models": "model",
    "data": "data",
    "tasks": "task",
    "prompts": "prompt",
    "adapters": "adapter",
    "providers": "provider",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "experiments": "experiment",
    "samplers": "hydra/sweeper/sampler",
    "pruners": "hydra/sweeper/pruner",
    "sweeps": "",
}


def choices(kind: str) -> dict[str, Path]:
    """Return the files of a kind by name, sorted; the user's own come before the packaged."""
    group = GROUPS[kind]
    places: Sequence[Path] = (
        [folder / group for folder in [*folders("conf"), SWEEPER]] if group else folders("sweeps")
    )
    found = {file.stem: file for place in reversed(places) for file in place.glob("*.yaml")}
    found.pop("base", None)  # which others take their keys from
    return dict(sorted(found.items()))


def about(file: Path) -> str:
    """Return the first sentence of the comment that a file begins with, or of its ``about``."""
    text = file.read_text(encoding="utf-8", errors="replace")
    comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
    said = " ".join(line.strip("# ") for line in comment if "@package" not in line)
    named = re.search(r"^about:\s*(.+)$", text, re.MULTILINE)
    said = named[1].strip("\"'") if named else said
    return re.split(r"(?<=\.) (?=[A-Z])", said, maxsplit=1)[0].rstrip(".")
