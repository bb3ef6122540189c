"""The description in a saved model's folder, by which records are read and outputs decoded."""

import dataclasses
import json
from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline import __version__
from pipeline.common.contract import Precision
from pipeline.common.errors import ModelError, TrackingError, listing
from pipeline.common.text import printable
from pipeline.config.experiment import Experiment
from pipeline.config.explain import first
from pipeline.config.migrations import migrated
from pipeline.config.task import Columns, TaskConfig
from pipeline.config.types import Tokens
from pipeline.config.untrusted import MOST_JSON_BYTES, read_json
from pipeline.data.targets import Moments, Targets
from pipeline.tasks import get_task

FILE = "tunewright.json"
FORMAT: Literal[1] = 1

_STRICT = ConfigDict(extra="forbid")


@dataclass(config=_STRICT, frozen=True)
class Description:
    """A saved model's task, without anything of the machine that it was made on."""

    format: Literal[1]
    tunewright: str  # the version that wrote it
    task: TaskConfig  # as prediction needs it
    columns: Columns
    label_counts: dict[str, int]  # training rows a label, in the order of the model's outputs
    max_length: Tokens  # tokens
    precision: Precision
    moments: dict[str, Moments] = field(default_factory=dict)  # of numbers

    @property
    def targets(self) -> Targets:
        """What its task knows of the training rows."""
        return Targets(self.label_counts, self.moments)


def describe(experiment: Experiment, targets: Targets) -> Description:
    """Return the description of a model that an experiment trained."""
    task, precision = experiment.task, experiment.training.precision
    assert precision != "auto"  # a run has settled it
    return Description(
        format=FORMAT,
        tunewright=__version__,
        task=get_task(task).for_prediction(task),
        columns=experiment.data.columns,
        label_counts=dict(targets.counts),
        max_length=experiment.training.max_length,
        precision=precision,
        moments=dict(targets.moments),
    )


def write(description: Description, folder: Path) -> None:
    """Write a description into the folder of its model."""
    content = dataclasses.asdict(description)
    if not description.moments:  # which an earlier version would not read
        del content["moments"]
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Description:
    """Read the description in a model's folder, which may come from somebody else.

    Raises:
        ModelError: where there is none, or one that cannot be used.
    """
    place = folder / FILE
    if not place.is_file():
        names = listing(sorted(p.name for p in folder.iterdir()), most=6) or "nothing"
        raise ModelError(
            f"{folder}: not a tunewright model: expected {FILE} next to the weights, found {names}."
            " A run writes it when it keeps its model."
        )
    if place.stat().st_size > MOST_JSON_BYTES:
        raise ModelError(
            f"{place}: {place.stat().st_size:,} bytes; expected at most {MOST_JSON_BYTES:,}."
        )
    try:
        content = read_json(place.read_bytes(), str(place))
    except TrackingError as error:
        raise ModelError(str(error)) from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise ModelError(
            f"{place}: format {found}, from a later version; this is tunewright {__version__}, "
            f"which reads format {FORMAT}."
        )
    if isinstance(content, dict):  # an older model knows fewer keys
        content["task"] = migrated({"task": content.get("task")})["task"]
    try:
        description: Description = _SCHEMA.validate_python(content)
    except ValidationError as error:
        wrong = first(error)
        key = ".".join(map(str, wrong["loc"]))
        raise ModelError(
            f"{place}: {printable(key)}: {wrong['msg'].rstrip('.')}; expected what a run of "
            "tunewright writes."
        ) from error
    return description


_SCHEMA = TypeAdapter(Description)
